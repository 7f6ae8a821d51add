"""Sends questions in batches; each gets one answer or Unavailable.

The path of a question that is answered is here. What happens after a failed attempt is in `retry`.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from shared.bus import counters
from shared.bus.channels import ask_channel
from shared.bus.errors import Rejected, Unavailable
from shared.bus.ports import uncounted
from shared.rpc.batch import Batch, OpenQuestion
from shared.rpc.codec import (
    BATCH_LIMIT_BYTES,
    BODY_LIMIT_BYTES,
    BUSY,
    MALFORMED,
    OK,
    QUESTIONS_PER_MESSAGE,
    Item,
    Questions,
    decode_answers,
    encode,
)
from shared.rpc.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.bus.envelope import Envelope, Opened
    from shared.bus.errors import Reason
    from shared.bus.ports import Count, Send, Sent
    from shared.clock import Clock
    from shared.rpc.batch import Then
    from shared.rpc.responder_pool import ResponderPool


_Result = TypeVar("_Result")

TRY_SECONDS: Final = 0.5
"""How long to wait for one responder before asking another."""
DEADLINE_SECONDS: Final = 2.0
"""Maximum time for a question over all attempts."""
QUESTIONS_IN_FLIGHT_LIMIT: Final = 1024
"""Maximum number of open questions; further ones are refused immediately."""


class Requester:
    """Asks approval replicas, combining the questions of one loop iteration into one message.

    Questions that are submitted while a message is on its way to Redis are combined as well: they
    could not be sent earlier, and a message with many questions costs little more than one with a
    single question. Questions have no tasks, futures or timers of their own. An answer counts if
    its question is open and was sent to that responder in any attempt; all other answers are
    dropped and counted.
    """

    def __init__(
        self,
        send: Send,
        envelope: Envelope,
        responders: ResponderPool,
        clock: Clock,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        count: Count = uncounted,
        bus_ok: Callable[[], bool] = lambda: True,
        try_seconds: float = TRY_SECONDS,
        deadline_seconds: float = DEADLINE_SECONDS,
        in_flight_limit: int = QUESTIONS_IN_FLIGHT_LIMIT,
    ) -> None:
        """Create a requester. `bus_ok` tells whether Redis is the cause when no replica is seen."""
        self._publish = send
        self._envelope = envelope
        self._responders = responders
        self._clock = clock
        self._loop = loop
        self._count = count
        self._count_sent = count.adder(counters.QUESTIONS_SENT)
        self._try_seconds = try_seconds
        self._deadline_seconds = deadline_seconds
        self._limit = in_flight_limit
        self._open: dict[int, OpenQuestion] = {}
        self._raised: list[OpenQuestion] = []
        self._raised_at = 0.0
        """When the oldest of them was submitted."""
        self._answered: list[tuple[Then, msgspec.Raw]] = []
        """Answers that came in this turn of the loop."""
        self._leaving = 0
        """Number of messages on their way to Redis."""
        self._last_id = 0
        self._stopped = False
        self._tries = RetryPolicy(
            responders,
            clock,
            loop=loop,
            count=count,
            bus_ok=bus_ok,
            send=self._send,
            give_up_sending=self._give_up_sending,
            close=self._close,
        )

    @property
    def in_flight(self) -> int:
        """Number of questions without an answer."""
        return len(self._open)

    @property
    def trouble(self) -> Reason | None:
        """Why no replica can be asked at the moment; None if one can."""
        return self._tries.trouble

    async def ask(self, question: bytes | msgspec.Raw) -> msgspec.Raw:
        """Get the answer to an encoded question; raises Unavailable, Rejected("oversized")."""
        return await self.submit(question)

    def submit(
        self, question: bytes | msgspec.Raw, *, urgent: bool = False
    ) -> asyncio.Future[msgspec.Raw]:
        """Like `ask`, without a coroutine: Unavailable is raised or set on the future.

        `urgent` questions are exempt from the limit on open questions.
        """
        future: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
        asked = self.request(question, partial(settle, future), urgent=urgent)
        asked.asker = future
        future.add_done_callback(partial(self._given_up, asked))
        return future

    def request(
        self, question: bytes | msgspec.Raw, then: Then, *, urgent: bool = False
    ) -> OpenQuestion:
        """Ask; `then` gets the answer or Unavailable, once, in a later turn of the loop.

        Raises Unavailable if nothing can be asked now, and Rejected("oversized").
        """
        if self._stopped:
            raise Unavailable("no-responder", detail="stopped")
        if len(self._open) >= self._limit and not urgent:
            self._count(counters.QUESTIONS_FAILED, reason="overloaded")
            raise Unavailable("overloaded")
        size = len(question)
        if size > BODY_LIMIT_BYTES:
            raise Rejected("oversized")
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._last_id += 1
        raised = OpenQuestion(self._last_id, msgspec.Raw(question), size, then)
        self._open[self._last_id] = raised
        if not self._raised:
            self._raised_at = self._clock.monotonic()
            self._loop.call_soon(self._flush)
        self._raised.append(raised)
        return raised

    def deliver(self, message: Opened) -> None:
        """Process a message of answers from the inbox, dropping those without an open question."""
        try:
            items = decode_answers(message.body).items
        except MALFORMED:
            self._count(counters.ANSWERS_DROPPED, why="malformed")
            return
        sender = message.sender
        busy: dict[Batch, dict[int, OpenQuestion]] = {}
        taken = False
        for item in items:
            question = self._open.get(item.id)
            batch = question.batch if question is not None else None
            if question is None or batch is None or sender not in batch.asked:
                self._drop(item.id, question)
                continue
            taken = True
            if item.status == OK:
                self._close(question)
                self._answer(question.then, item.body)
            elif item.status == BUSY and sender == batch.responder:
                busy.setdefault(batch, {})[item.id] = question
        if taken:
            self._responders.answered(sender)
        for batch, questions in busy.items():
            still_open = [q for q in questions.values() if q.batch is batch]
            if still_open:
                self._tries.refused(batch, still_open, sender)

    def stop(self) -> None:
        """Fail all open and all future questions."""
        self._stopped = True
        raised, self._raised = self._raised, []
        batches = {q.batch for q in self._open.values() if q.batch is not None}
        batches.add(self._batch([q for q in raised if q.id in self._open], deadline=0.0))
        for batch in batches:
            batch.reason = batch.reason or "no-responder"
            self._tries.fail(batch)

    def _flush(self) -> None:
        """Send what was submitted, unless a message is still on its way."""
        if self._leaving:
            return
        raised, self._raised = self._raised, []
        deadline = self._raised_at + self._deadline_seconds
        part: list[OpenQuestion] = []
        size = 0
        for question in raised:
            if question.asker is not None and question.asker.done():
                self._open.pop(question.id, None)
                continue
            size += question.size
            if part and (size > BATCH_LIMIT_BYTES or len(part) == QUESTIONS_PER_MESSAGE):
                self._start(part, deadline)
                part, size = [], question.size
            part.append(question)
        if part:
            self._start(part, deadline)

    def _batch(self, questions: list[OpenQuestion], deadline: float) -> Batch:
        batch = Batch(questions, deadline, len(questions))
        for question in questions:
            question.batch = batch
        return batch

    def _start(self, questions: list[OpenQuestion], deadline: float) -> None:
        """Ask the next responder in time; without one, `retry` decides."""
        batch = self._batch(questions, deadline)
        if self._clock.monotonic() < deadline:
            self._send(batch)
        else:
            self._tries.advance(batch)

    def _send(self, batch: Batch, responder: str | None = None) -> None:
        """Publish the open questions of a batch to a responder, by default to the next one."""
        first = batch.attempt == 0
        questions = batch.questions if first else batch.open_questions()
        body = encode(Questions([Item(question.id, question.body) for question in questions]))
        responder = responder or self._responders.choose()
        if responder is None:
            self._tries.advance(batch)
            return
        batch.responder = responder
        batch.excluded.add(responder)
        if responder not in batch.asked:
            batch.asked.append(responder)
        seconds = min(self._try_seconds, batch.deadline - self._clock.monotonic())
        self._tries.watch(batch, seconds)
        channel = ask_channel(responder)
        self._count_sent(len(questions))
        attempt = batch.attempt
        try:
            batch.sent = self._publish(
                channel,
                self._envelope.seal(channel, body),
                partial(self._on_published, batch, attempt, responder),
            )
        except Unavailable:
            self._tries.redis_failed(batch)
            return
        self._leaving += first

    def _on_published(
        self, batch: Batch, attempt: int, responder: str, result: int | Unavailable
    ) -> None:
        """Send what was submitted meanwhile; a message that reached nobody is tried again."""
        if attempt == 0:
            self._leaving -= 1  # first: after an error below, questions have to be sent as well
        if attempt == batch.attempt:
            batch.sent = None
        try:
            if isinstance(result, Unavailable):
                if attempt == batch.attempt:
                    self._tries.redis_failed(batch)
            elif not result:
                self._tries.unheard(batch, attempt, responder)
        finally:
            if attempt == 0 and self._raised:
                self._flush()

    def _give_up_sending(self, batch: Batch, sent: Sent) -> None:
        """Stop waiting for Redis to confirm a message, and send what was submitted meanwhile."""
        sent.give_up()
        if batch.attempt == 0:
            self._leaving -= 1
            if self._raised:
                self._flush()

    def _answer(self, then: Then, body: msgspec.Raw) -> None:
        """Call back in the next turn, after the events that came with the answer."""
        if not self._answered:
            loop = self._loop or asyncio.get_running_loop()
            loop.call_soon(self._call_back)
        self._answered.append((then, body))

    def _call_back(self) -> None:
        answered, self._answered = self._answered, []
        for then, body in answered:
            try:
                then(body)
            except Exception as error:  # noqa: BLE001  the event loop logs it; the others go on
                loop = self._loop or asyncio.get_running_loop()
                context = {"message": "an answer's callback failed", "exception": error}
                loop.call_exception_handler(context)

    def _given_up(self, asked: OpenQuestion, future: asyncio.Future[msgspec.Raw]) -> None:
        """Forget a question whose asker has left.

        Nobody watches over the attempt of a batch without questions, so that the confirmation of
        its message is not awaited either.
        """
        if not future.cancelled() or asked.id not in self._open:
            return
        batch = asked.batch
        if batch is not None and batch.left == 1 and batch.sent is not None:
            self._give_up_sending(batch, batch.sent)
        self._close(asked)

    def _drop(self, number: int, question: OpenQuestion | None) -> None:
        if question is not None:
            why = "stranger"
        else:
            why = "late" if 0 < number <= self._last_id else "unknown"
        self._count(counters.ANSWERS_DROPPED, why=why)

    def _close(self, question: OpenQuestion) -> None:
        del self._open[question.id]
        batch, question.batch = question.batch, None
        if batch is not None:
            batch.left -= 1
            if not batch.left:
                batch.step()
                self._tries.forget(batch)


def settle(future: asyncio.Future[_Result], result: _Result | Unavailable) -> None:
    """Make this the result of a future, or its exception, unless it is done already."""
    if future.done():
        return
    if isinstance(result, Unavailable):
        future.set_exception(result)
    else:
        future.set_result(result)
