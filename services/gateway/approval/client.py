"""The client of the approval service: its interface, and the implementation over the bus.

An answer is used only if this gateway knows of no newer change of the device, and only while the
lease runs (R6, R7). Otherwise the client waits or asks again, all within one deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from services.gateway.replication.replica import Freshness
from shared.bus.errors import Unavailable
from shared.rpc.messages import (
    ASKED_ANEW,
    Answer,
    AuthorizeDevice,
    ReportSecret,
    Result,
    TokenCheck,
    decode_answer,
    decode_outcome,
    encode,
)
from shared.rpc.question_window import QuestionWindow
from shared.rpc.requester import DEADLINE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.gateway.approval.heartbeat import Heartbeat
    from services.gateway.replication.replica import Replica
    from shared.clock import Clock
    from shared.rpc.messages import Call, Outcome
    from shared.rpc.requester import Requester

    Then = Callable[[Answer | Unavailable], object]

WRITTEN_WITHIN_SECONDS: Final = DEADLINE_SECONDS
"""A question may write to the store until this long after it was asked (R11).

No longer than its answer is waited for: after that, the client was told to retry, and a write for
the abandoned attempt would only use up what the retry needs.
"""
ASKED_LIMIT: Final = 8
"""How often one question is asked at most, if changes keep making its answers stale."""


class ApprovalClient(Protocol):
    """The interface to approval, which decides whether a device is admitted."""

    def request(self, question: AuthorizeDevice | ReportSecret, callback: Then) -> None:
        """Ask a question; `callback` gets the answer, or Unavailable if none arrives in time.

        An admission is valid only in the turn of the event loop in which `callback` is called.
        """
        ...

    async def call(self, call: Call) -> Outcome:
        """Call a method and return its outcome. Raises Unavailable.

        Before it returns, this gateway has applied the changes of the call, unless the deadline
        passes first.
        """
        ...

    def require_lease(self) -> None:
        """Raise Unavailable without a lease; for clients that are admitted without a question."""
        ...


class BusApprovalClient:
    """Asks any live approval replica over the bus; `window` knows the open questions."""

    def __init__(
        self,
        requester: Requester,
        replica: Replica,
        heartbeat: Heartbeat,
        clock: Clock,
        window: QuestionWindow | None = None,
    ) -> None:
        self._clock = clock
        self._window = window or QuestionWindow()
        self._requester = requester
        self._replica = replica
        self._heartbeat = heartbeat
        self._tasks: set[asyncio.Task[None]] = set()

    def request(
        self, question: AuthorizeDevice | ReportSecret | TokenCheck, callback: Then
    ) -> None:
        """Ask a question; `callback` gets the answer, or Unavailable if none arrives in time."""
        now = self._clock.monotonic()
        not_after_ms = self._written_until_ms(now)
        if not_after_ms is None:
            callback(Unavailable(self._requester.trouble or "no-lease"))
            return
        question = msgspec.structs.replace(question, not_after_ms=not_after_ms)
        deadline = now + DEADLINE_SECONDS
        try:
            self._requester.request(
                encode(question), partial(self._on_answer, question, deadline, callback)
            )
        except Unavailable as error:
            callback(error)
            return
        if not isinstance(question, TokenCheck):
            self._window.asked()

    async def stop(self) -> None:
        """Cancel the questions that are being asked again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def call(self, call: Call) -> Outcome:
        """Call a method and return its outcome. Raises Unavailable."""
        if not self._replica.leased:
            raise Unavailable(self._requester.trouble or "no-lease")
        not_after_ms = self._written_until_ms(self._clock.monotonic())
        if not_after_ms is None:
            raise Unavailable(self._requester.trouble or "no-lease")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DEADLINE_SECONDS
        call = msgspec.structs.replace(call, not_after_ms=not_after_ms)
        raw = await self._requester.ask(msgspec.Raw(encode(call)))
        try:
            outcome: Outcome = decode_outcome(raw)
        except (msgspec.MsgspecError, RecursionError):
            raise Unavailable("no-responder", detail="the answer is malformed") from None
        if isinstance(outcome, Result):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    while not self._replica.has_applied(outcome.change):
                        self._heartbeat.sync_now()
                        await self._heartbeat.wait_for_progress()
        return outcome

    def require_lease(self) -> None:
        """Raise Unavailable without a lease; for clients that are admitted without a question."""
        if not self._replica.leased:
            raise Unavailable("no-lease")

    def _written_until_ms(self, now: float) -> int | None:
        """Return until when a question asked now may write, by the store's clock, if known."""
        offset_ms = self._heartbeat.store_offset_ms
        if offset_ms is None:
            return None
        return int((now + WRITTEN_WITHIN_SECONDS) * 1000 + offset_ms)

    def _on_answer(
        self,
        question: AuthorizeDevice | ReportSecret | TokenCheck,
        deadline: float,
        callback: Then,
        result: msgspec.Raw | Unavailable,
    ) -> None:
        """Handle the first answer; it is usually current, so that no task is needed."""
        answer = result if isinstance(result, Unavailable) else _decode(result)
        now = self._clock.monotonic()
        if not isinstance(question, TokenCheck):
            answered = not isinstance(answer, Unavailable)
            self._window.ended(deadline - DEADLINE_SECONDS, now, answered=answered)
        if isinstance(answer, Unavailable) or isinstance(question, ReportSecret):
            callback(answer)
            return
        if now > deadline:
            callback(Unavailable("timeout", detail="the answer arrived too late"))
        elif self._replica.freshness(answer.change, question.device_id) is Freshness.CURRENT:
            callback(answer)
        else:
            left = deadline - now
            task = asyncio.create_task(self._request_again(question, answer, left, callback))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _request_again(
        self,
        question: AuthorizeDevice | TokenCheck,
        answer: Answer,
        seconds: float,
        callback: Then,
    ) -> None:
        try:
            async with asyncio.timeout(seconds):
                answer = await self._request_until_current(question, answer)
        except TimeoutError:
            callback(Unavailable("timeout", detail="no answer was current"))
        except Unavailable as error:
            callback(error)
        else:
            callback(answer)

    async def _request_until_current(
        self, question: AuthorizeDevice | TokenCheck, answer: Answer
    ) -> Answer:
        asked = 1
        while True:
            freshness = self._replica.freshness(answer.change, question.device_id)
            if freshness is Freshness.CURRENT:
                return answer
            if freshness is Freshness.NO_LEASE or asked == ASKED_LIMIT:
                raise Unavailable("no-lease" if freshness is Freshness.NO_LEASE else "timeout")
            if freshness is Freshness.AHEAD:
                self._heartbeat.sync_now()
                await self._heartbeat.wait_for_progress()
                continue
            if asked > 1:
                # Asking again did not help: the local history may differ from the store's.
                self._heartbeat.sync_now()
                await self._heartbeat.wait_for_progress()
            asked += 1
            call_id = f"{question.call_id}{ASKED_ANEW}{asked}"
            answer = await self._request_once(msgspec.structs.replace(question, call_id=call_id))

    async def _request_once(self, question: AuthorizeDevice | TokenCheck) -> Answer:
        answer = _decode(await self._requester.ask(msgspec.Raw(encode(question))))
        if isinstance(answer, Unavailable):
            raise answer
        return answer


def _decode(raw: msgspec.Raw) -> Answer | Unavailable:
    try:
        answer: Answer = decode_answer(raw)
    except (msgspec.MsgspecError, RecursionError):
        return Unavailable("no-responder", detail="the answer is malformed")
    return answer
