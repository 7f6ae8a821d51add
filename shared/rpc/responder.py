"""Answers questions: one bounded handler call per message; errors give no answer."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from shared.bus import counters
from shared.bus.channels import inbox_channel
from shared.bus.errors import Unavailable
from shared.bus.ports import uncounted
from shared.rpc.codec import (
    BATCH_LIMIT_BYTES,
    BODY_LIMIT_BYTES,
    MALFORMED,
    OK,
    QUESTIONS_PER_MESSAGE,
    Answers,
    ItemAnswer,
    decode_questions,
    encode,
)
from shared.rpc.codec import BUSY as BUSY_STATUS

if TYPE_CHECKING:
    from shared.bus.envelope import Envelope, Opened
    from shared.bus.ports import Count, Send
    from shared.rpc.codec import Item

QUESTIONS_IN_FLIGHT_LIMIT: Final = 4096
"""Maximum questions in progress; a message that would exceed it is answered busy as a whole."""
HANDLE_SECONDS: Final = 5.0
"""Maximum duration of a handler call; the requester has given up long before."""
STOP_SECONDS: Final = 5.0
"""How long stopping waits for questions in progress by default."""
LEAVE_SECONDS: Final = 1.0
"""How long stopping waits for the last answers to be published."""

_log: Final = structlog.get_logger(__name__)


class Question(msgspec.Struct, frozen=True, gc=False):
    """One encoded question, and the boot id of the gateway that asks."""

    sender: str
    body: msgspec.Raw


class Busy(enum.Enum):
    """Returned by a handler for a question that another replica should answer."""

    BUSY = "busy"


BUSY: Final = Busy.BUSY
Reply = bytes | msgspec.Raw | Busy | None
"""An encoded answer, BUSY, or None for no answer, which the requester treats as unknown."""
Replies = Sequence["Reply | asyncio.Future[Reply]"]
"""Replies to the questions of one message, in order.

A future stands for a reply that takes longer; available replies do not wait for it.
"""
Handle = Callable[[list[Question], Callable[[Replies | Exception], object]], object]
"""Answers the questions of one message: calls its second argument once, with replies or an error.

It may do so before it returns.
"""


class _Message:
    """A message in progress: its questions, and the replies that still have to be done."""

    __slots__ = ("due_at", "is_answered", "items", "open", "sender")

    def __init__(self, sender: str, items: list[Item], due_at: float) -> None:
        self.sender = sender
        self.items = items
        self.due_at = due_at
        self.is_answered = False
        """Whether the handler has called back."""
        self.open: set[asyncio.Future[Reply]] = set()

    def cancel(self) -> None:
        for future in list(self.open):
            future.cancel()


class Responder:
    """Passes messages of questions to the handler and publishes its replies.

    Answers for the same gateway are combined into one message if they become ready in the same loop
    iteration or while a message is on its way to Redis.
    """

    def __init__(
        self,
        send: Send,
        envelope: Envelope,
        handle: Handle,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        count: Count = uncounted,
        in_flight_limit: int = QUESTIONS_IN_FLIGHT_LIMIT,
        handle_seconds: float = HANDLE_SECONDS,
    ) -> None:
        """Create a responder."""
        self._publish = send
        self._envelope = envelope
        self._handle = handle
        self._given_loop = loop
        self._count = count
        self._limit = in_flight_limit
        self._handle_seconds = handle_seconds
        self._in_flight = 0
        self._stopping = False
        self._stopped = False
        self._open: dict[_Message, None] = {}
        """Messages in progress, the oldest first."""
        self._all_done: asyncio.Future[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        """One timer for all messages: it cancels those that take too long."""
        self._ready: dict[str, list[ItemAnswer]] = {}
        self._leaving = 0
        """The number of messages on their way to Redis."""
        self._all_left: asyncio.Future[None] | None = None

    @property
    def in_flight(self) -> int:
        """Number of questions that the handler has not answered yet."""
        return self._in_flight

    def deliver(self, message: Opened) -> None:
        """Process a message of questions from this replica's channel."""
        if self._stopped:
            self._count(counters.QUESTIONS_DROPPED, why="stopped")
            return
        try:
            items = decode_questions(message.body).items
        except MALFORMED:
            self._count(counters.QUESTIONS_DROPPED, why="malformed")
            return
        sender = message.sender
        if self._stopping or self._in_flight + len(items) > self._limit:
            self._count(counters.QUESTIONS_BUSY, len(items))
            self._put(sender, [ItemAnswer(item.id, BUSY_STATUS) for item in items])
            return
        self._count(counters.QUESTIONS_TAKEN, len(items))
        self._in_flight += len(items)
        loop = self._loop
        received = _Message(sender, items, loop.time() + self._handle_seconds)
        self._open[received] = None
        if self._deadline is None:
            self._deadline = loop.call_at(received.due_at, self._end_overdue)
        questions = [Question(sender, item.body) for item in items]
        try:
            self._handle(questions, partial(self._on_replies, received))
        except Exception as error:  # noqa: BLE001  logged; no answer is the only safe one
            if received.is_answered:
                self._failed(sender, len(items), error)
            else:
                self._on_replies(received, error)

    async def stop(self, grace_seconds: float = STOP_SECONDS) -> None:
        """Answer new questions with busy, finish those in progress, publish and stop.

        Questions that are not finished after `grace_seconds` are cancelled and get no answer.
        """
        self._stopping = True
        if self._open:
            self._all_done = self._loop.create_future()
            await asyncio.wait([self._all_done], timeout=grace_seconds)
            for message in list(self._open):
                self._end(message)
            if self._open:
                await self._all_done
        self._stopped = True
        self._publish_ready()
        if self._leaving:
            self._all_left = self._loop.create_future()
            await asyncio.wait([self._all_left], timeout=LEAVE_SECONDS)

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        if self._given_loop is None:
            self._given_loop = asyncio.get_running_loop()
        return self._given_loop

    def _on_replies(self, message: _Message, replies: Replies | Exception) -> None:
        """Publish the replies that are available, and wait for the others."""
        if message.is_answered or message not in self._open:  # answered twice, or too late
            if not isinstance(replies, Exception):
                _cancel(replies)
            return
        message.is_answered = True
        if isinstance(replies, Exception):
            self._failed(message.sender, len(message.items), replies)
        else:
            try:
                self._take(message, replies)
            except Exception as error:  # noqa: BLE001  logged; no answer is the only safe one
                self._failed(message.sender, len(message.items), error)
                message.cancel()
        if not message.open:
            self._done(message)

    def _take(self, message: _Message, replies: Replies) -> None:
        answers: list[ItemAnswer] = []
        for item, reply in zip(message.items, replies, strict=True):
            if isinstance(reply, asyncio.Future):
                message.open.add(reply)
                reply.add_done_callback(partial(self._on_late_reply, message, item))
            elif reply is not None:
                answers.append(self._to_answer(item, reply))
        self._put(message.sender, answers)

    def _on_late_reply(self, message: _Message, item: Item, late: asyncio.Future[Reply]) -> None:
        message.open.discard(late)
        if not late.cancelled():
            error = late.exception()
            if error is not None:
                self._failed(message.sender, 1, error)
            elif (reply := late.result()) is not None:
                self._put(message.sender, [self._to_answer(item, reply)])
        if not message.open:
            self._done(message)

    def _failed(self, sender: str, questions: int, error: BaseException) -> None:
        self._count(counters.HANDLER_FAILURES)
        _log.error("bus_handler_failed", sender=sender, questions=questions, exc_info=error)

    def _done(self, message: _Message) -> None:
        del self._open[message]
        self._in_flight -= len(message.items)
        if not self._open and self._all_done is not None and not self._all_done.done():
            self._all_done.set_result(None)

    def _end_overdue(self) -> None:
        """Cancel what takes too long; no answer is the result."""
        self._deadline = None
        now = self._loop.time()
        for message in list(self._open):
            if message.due_at > now:
                self._deadline = self._loop.call_at(message.due_at, self._end_overdue)
                return
            self._failed(message.sender, len(message.items), TimeoutError("it took too long"))
            self._end(message)

    def _end(self, message: _Message) -> None:
        """Give up what is not answered; no answer is the result."""
        if message.open:
            message.cancel()
        else:
            self._done(message)

    def _to_answer(self, item: Item, reply: bytes | msgspec.Raw | Busy) -> ItemAnswer:
        if reply is BUSY:
            self._count(counters.QUESTIONS_BUSY)
            return ItemAnswer(item.id, BUSY_STATUS)
        return ItemAnswer(item.id, OK, msgspec.Raw(reply))

    def _put(self, sender: str, answers: list[ItemAnswer]) -> None:
        if not answers:
            return
        if not self._ready:
            self._loop.call_soon(self._flush)
        self._ready.setdefault(sender, []).extend(answers)

    def _flush(self) -> None:
        """Publish the available answers, unless a message is still on its way."""
        if not self._leaving:
            self._publish_ready()

    def _publish_ready(self) -> None:
        ready, self._ready = self._ready, {}
        for sender, answers in ready.items():
            part: list[ItemAnswer] = []
            size = 0
            for answer in answers:
                length = len(answer.body)
                if length > BODY_LIMIT_BYTES:
                    self._count(counters.ANSWERS_LOST, why="oversized")
                    _log.error("bus_answer_oversized", sender=sender, bytes=length)
                    continue
                size += length
                if part and (size > BATCH_LIMIT_BYTES or len(part) == QUESTIONS_PER_MESSAGE):
                    self._send(sender, part)
                    part, size = [], length
                part.append(answer)
            if part:
                self._send(sender, part)

    def _send(self, sender: str, answers: list[ItemAnswer]) -> None:
        channel = inbox_channel(sender)
        sealed = self._envelope.seal(channel, encode(Answers(answers)))
        try:
            self._publish(channel, sealed, partial(self._left, len(answers)))
        except Unavailable:
            self._count(counters.ANSWERS_LOST, len(answers), why="redis")
            return
        self._leaving += 1

    def _left(self, answers: int, result: int | Unavailable) -> None:
        self._leaving -= 1
        if not self._leaving and self._all_left is not None and not self._all_left.done():
            self._all_left.set_result(None)
        if self._ready:
            self._flush()
        if isinstance(result, Unavailable):
            self._count(counters.ANSWERS_LOST, answers, why="redis")
        elif not result:
            self._count(counters.ANSWERS_LOST, answers, why="asker-gone")
        else:
            self._count(counters.ANSWERS_SENT, answers)


def _cancel(replies: Replies) -> None:
    for reply in replies:
        if isinstance(reply, asyncio.Future):
            reply.cancel()
