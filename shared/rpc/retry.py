"""What happens to questions after a failed attempt: another responder, a pause, or the end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from shared.bus import counters
from shared.bus.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.bus.errors import Reason
    from shared.bus.ports import Count, Sent
    from shared.clock import Clock
    from shared.rpc.batch import Batch, OpenQuestion
    from shared.rpc.responder_pool import ResponderPool

REDIS_FAILURES_LIMIT: Final = 4
"""How many publishes may fail before the questions fail."""
PAUSE_SECONDS: Final = 0.1
"""Pause after a failed publish or without responders: about the time to reconnect."""


class RetryPolicy:
    """Decides how batches of questions continue, with one timer for all of them.

    When a responder is slow, the batch goes to the next one; when all have been asked, once more to
    those that were not busy; after that, late answers are awaited until the deadline. If nothing is
    subscribed to a responder's channel, the next one is asked immediately. If no responder is left,
    the batch waits for one that was seen recently, which may reconnect or be replaced. If all are
    busy, or none was ever seen, the batch fails immediately.
    """

    def __init__(
        self,
        responders: ResponderPool,
        clock: Clock,
        *,
        loop: asyncio.AbstractEventLoop | None,
        count: Count,
        bus_ok: Callable[[], bool],
        send: Callable[[Batch, str], None],
        give_up_sending: Callable[[Batch, Sent], None],
        close: Callable[[OpenQuestion], None],
    ) -> None:
        """Create the policy.

        `send` asks a responder, `give_up_sending` stops waiting for Redis to confirm a message, and
        `close` removes a question from its batch.
        """
        self._responders = responders
        self._clock = clock
        self._loop = loop
        self._count = count
        self._bus_ok = bus_ok
        self._send = send
        self._give_up_sending = give_up_sending
        self._close = close
        self._watched: dict[Batch, None] = {}
        """The batches with a due time."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        """When it ends, no later than the first batch is due (event loop's time)."""

    @property
    def trouble(self) -> Reason | None:
        """Why no replica can be asked at the moment; None if one can."""
        if not self._bus_ok():
            return "redis"
        return None if self._responders.live() else "no-responder"

    def advance(self, batch: Batch) -> None:
        """Ask the next responder; if there is none, wait for late answers or fail."""
        batch.step()
        remaining = batch.deadline - self._clock.monotonic()
        if remaining <= 0:
            self.fail(batch)
            return
        responder = self._responders.choose(batch.excluded)
        if responder is None and batch.hopeful and not batch.repeated:
            batch.repeated = True
            batch.excluded = set(batch.busy)
            responder = self._responders.choose(batch.excluded)
        if responder is not None:
            self._ask_another(batch, responder)
        elif self._responders.expected() and not batch.busy:
            self._wait(batch, min(PAUSE_SECONDS, remaining))
        elif batch.hopeful:
            self._wait(batch, remaining)
        else:
            self.fail(batch)

    def refused(self, batch: Batch, questions: list[OpenQuestion], responder: str) -> None:
        """Ask another responder after this one was busy."""
        self._count(counters.TRIES_FAILED, why="busy")
        part = batch.split(questions)
        if not batch.left:
            batch.step()
        part.busy.add(responder)
        part.reason = "overloaded"
        self.advance(part)

    def fail(self, batch: Batch) -> None:
        """Fail the open questions of a batch."""
        batch.step()
        reason = batch.reason
        if reason is None:
            reason = "redis" if batch.redis_failures or not self._bus_ok() else "no-responder"
        questions = batch.open_questions()
        for question in questions:
            self._close(question)
            self._tell(question, Unavailable(reason))
        if questions:
            self._count(counters.QUESTIONS_FAILED, len(questions), reason=reason)

    def watch(self, batch: Batch, seconds: float) -> None:
        """Continue with a batch after this time, unless it makes a step before."""
        loop = self._loop or asyncio.get_running_loop()
        due_at = batch.due_at = loop.time() + seconds
        self._watched[batch] = None
        self._wake_by(due_at)

    def forget(self, batch: Batch) -> None:
        """Stop watching a batch; the timer stays, because resetting it each time costs more."""
        self._watched.pop(batch, None)

    def _on_timer(self) -> None:
        """Continue with the batches that are due, and wait for the next one."""
        self._timer = None
        loop = self._loop or asyncio.get_running_loop()
        now = loop.time()
        try:
            for batch in list(self._watched):
                if batch.due_at is None:
                    self.forget(batch)
                elif batch.due_at <= now:
                    self.forget(batch)
                    self._timed_out(batch)
        finally:
            due = [batch.due_at for batch in self._watched if batch.due_at is not None]
            if due:
                self._wake_by(min(due))

    def _wake_by(self, when: float) -> None:
        """Set the timer to this time at the latest."""
        if self._timer is not None:
            if self._timer_at <= when:
                return
            self._timer.cancel()
        loop = self._loop or asyncio.get_running_loop()
        self._timer, self._timer_at = loop.call_at(when, self._on_timer), when

    def _tell(self, question: OpenQuestion, unavailable: Unavailable) -> None:
        """Call back in the next turn of the loop: a callback may ask again immediately."""
        loop = self._loop or asyncio.get_running_loop()
        loop.call_soon(question.then, unavailable)

    def _ask_another(self, batch: Batch, responder: str) -> None:
        """Ask a further responder."""
        if batch.left:
            self._send(batch, responder)

    def _wait(self, batch: Batch, seconds: float) -> None:
        batch.responder = None
        self.watch(batch, seconds)

    def unheard(self, batch: Batch, attempt: int, responder: str) -> None:
        """Continue after a message that reached no subscriber."""
        self._responders.no_responders(responder)
        if attempt == batch.attempt:
            self._count(counters.TRIES_FAILED, why="no-responder")
            batch.excluded.discard(responder)
            batch.reason = "no-responder"
            self.advance(batch)

    def _timed_out(self, batch: Batch) -> None:
        """Continue after the time of an attempt, or of a pause."""
        responder = batch.responder
        if responder is None:
            self.advance(batch)
        elif batch.sent is not None:
            self._give_up_sending(batch, batch.sent)
            self.redis_failed(batch)
        else:
            self._count(counters.TRIES_FAILED, why="timeout")
            self._responders.timed_out(responder)
            batch.hopeful = True
            batch.reason = "timeout"
            self.advance(batch)

    def redis_failed(self, batch: Batch) -> None:
        """Pause, then continue; the responder is not at fault and may be asked again."""
        self._count(counters.TRIES_FAILED, why="redis")
        batch.step()
        batch.redis_failures += 1
        if batch.responder is not None:
            batch.excluded.discard(batch.responder)
        remaining = batch.deadline - self._clock.monotonic()
        if batch.redis_failures < REDIS_FAILURES_LIMIT:
            self._wait(batch, min(PAUSE_SECONDS, remaining))
        elif batch.hopeful:
            batch.excluded = set(self._responders.live())
            self._wait(batch, remaining)
        else:
            self.fail(batch)
