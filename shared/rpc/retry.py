"""What happens to questions after a failed attempt: another responder, a pause, or the end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from shared.bus import counters
from shared.bus.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.bus.errors import Reason
    from shared.bus.ports import Count
    from shared.clock import Clock
    from shared.rpc.requester import Batch, OpenQuestion
    from shared.rpc.responder_pool import ResponderPool

REDIS_FAILURES_LIMIT: Final = 4
"""How many publishes may fail before the questions fail."""
PAUSE_SECONDS: Final = 0.1
"""Pause after a failed publish or without responders: about the time to reconnect."""

_log: Final = structlog.get_logger(__name__)


class RetryPolicy:
    """Decides how batches of questions continue, with one timer for each batch.

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
        close: Callable[[OpenQuestion], None],
    ) -> None:
        """Create the policy. `send` asks a responder; `close` removes a question from its batch."""
        self._responders = responders
        self._clock = clock
        self._loop = loop
        self._count = count
        self._bus_ok = bus_ok
        self._send = send
        self._close = close

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
            if not question.future.done():
                question.future.set_exception(Unavailable(reason))
        if questions:
            self._count(counters.QUESTIONS_FAILED, len(questions), reason=reason)

    def _ask_another(self, batch: Batch, responder: str) -> None:
        """Ask a further responder, unless the askers of all questions have given up."""
        for question in batch.open_questions():
            if question.future.done():
                self._close(question)
        if batch.left:
            self._send(batch, responder)

    def _wait(self, batch: Batch, seconds: float) -> None:
        batch.responder = None
        loop = self._loop or asyncio.get_running_loop()
        batch.timer = loop.call_later(seconds, self.timed_out, batch)

    def unheard(
        self, batch: Batch, attempt: int, responder: str, error: BaseException | None
    ) -> None:
        """Continue after a message that was not published (`error`), or reached no subscriber."""
        if error is not None:
            if not isinstance(error, Unavailable):
                _log.error("bus_publish_failed", exc_info=error)
            if attempt == batch.attempt:
                self.redis_failed(batch)
            return
        self._responders.no_responders(responder)
        if attempt == batch.attempt:
            self._count(counters.TRIES_FAILED, why="no-responder")
            batch.excluded.discard(responder)
            batch.reason = "no-responder"
            self.advance(batch)

    def timed_out(self, batch: Batch) -> None:
        """Continue after the time of an attempt, or of a pause."""
        batch.timer = None
        responder = batch.responder
        if responder is None:
            self.advance(batch)
        elif batch.publishing is not None and not batch.publishing.done():
            batch.publishing.cancel()
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
