"""The port to approval: everything the gateway asks of it, and the way over the bus.

An answer counts only where this gateway knows of nothing newer about the device, and only while the
lease runs (R6, R7): otherwise it is waited for, or asked for anew. All of this has one deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from services.gateway.beat import Standing
from shared.bus.errors import Unavailable
from shared.bus.requester import DEADLINE_SECONDS
from shared.messages import (
    ASKED_ANEW,
    Admission,
    Answer,
    Knock,
    Returned,
    decode_answer,
    decode_outcome,
    encode,
)

if TYPE_CHECKING:
    from services.gateway.beat import Beat
    from services.gateway.beater import Beater
    from shared.bus.requester import Requester
    from shared.messages import Call, Outcome

WRITTEN_WITHIN_SECONDS: Final = 2 * DEADLINE_SECONDS
"""A question writes nothing later than this after it was asked (R11).

Longer than anybody waits for the answer: the store's clock is known only as exactly as a beat is
quick.
"""
ASKED_LIMIT: Final = 8
"""How often one connection's question is asked anew because something changed meanwhile."""


class Approvals(Protocol):
    """Who decides whether a device may come in."""

    async def ask(self, question: Admission | Knock) -> Answer:
        """Return the verdict; raises Unavailable when nobody gave one in time."""
        ...

    async def call(self, call: Call) -> Outcome:
        """Have a method carried out, and return what came of it; raises Unavailable.

        By then this gateway has applied what the call changed, unless that takes too long.
        """
        ...

    def require_current(self, answer: Answer | None, device_id: str) -> None:
        """Return if an answer still counts (None: if anybody may be let in at all).

        Raises Unavailable if not. To be called in the turn of the loop that registers the client.
        """
        ...


class BusApprovals:
    """Asks whichever approval replica is alive, over the bus."""

    def __init__(self, requester: Requester, beat: Beat, beater: Beater) -> None:
        self._requester = requester
        self._beat = beat
        self._beater = beater

    async def ask(self, question: Admission | Knock) -> Answer:
        """Return the verdict; raises Unavailable when nobody gave one in time."""
        not_after_ms = self._beater.store_ms(in_seconds=WRITTEN_WITHIN_SECONDS)
        if not_after_ms is None:
            raise Unavailable(self._requester.trouble or "no-lease")
        question = msgspec.structs.replace(question, not_after_ms=not_after_ms)
        if isinstance(question, Knock):
            return await self._ask(question)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DEADLINE_SECONDS
        answer = await self._ask(question)
        if loop.time() > deadline:
            raise Unavailable("timeout", detail="the answer came too late")
        if self._beat.standing(answer.change, question.device_id) is Standing.COUNTS:
            return answer
        try:
            async with asyncio.timeout_at(deadline):
                return await self._ask_until_it_counts(question, answer)
        except TimeoutError:
            raise Unavailable("timeout", detail="no answer was current") from None

    async def call(self, call: Call) -> Outcome:
        """Have a method carried out, and return what came of it; raises Unavailable."""
        if not self._beat.leased:
            raise Unavailable(self._requester.trouble or "no-lease")
        not_after_ms = self._beater.store_ms(in_seconds=WRITTEN_WITHIN_SECONDS)
        if not_after_ms is None:
            raise Unavailable(self._requester.trouble or "no-lease")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DEADLINE_SECONDS
        call = msgspec.structs.replace(call, not_after_ms=not_after_ms)
        raw = await self._requester.ask(msgspec.Raw(encode(call)))
        try:
            outcome: Outcome = decode_outcome(raw)
        except (msgspec.MsgspecError, RecursionError):
            raise Unavailable("no-responder", detail="an answer that cannot be read") from None
        if isinstance(outcome, Returned):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    while not self._beat.has_applied(outcome.change):
                        self._beater.beat_now()
                        await self._beater.moved()
        return outcome

    def require_current(self, answer: Answer | None, device_id: str) -> None:
        """Return if an answer still counts; raises Unavailable if not."""
        if answer is None:
            current = self._beat.leased
        else:
            current = self._beat.standing(answer.change, device_id) is Standing.COUNTS
        if not current:
            raise Unavailable("no-lease" if not self._beat.leased else "timeout")

    async def _ask_until_it_counts(self, question: Admission, answer: Answer) -> Answer:
        asked = 1
        while True:
            standing = self._beat.standing(answer.change, question.device_id)
            if standing is Standing.COUNTS:
                return answer
            if standing is Standing.NO_LEASE or asked == ASKED_LIMIT:
                raise Unavailable("no-lease" if standing is Standing.NO_LEASE else "timeout")
            if standing is Standing.WAIT:
                self._beater.beat_now()
                await self._beater.moved()
                continue
            if asked > 1:
                # Asking alone did not help: the history known here may not be the store's any more.
                self._beater.beat_now()
                await self._beater.moved()
            asked += 1
            call_id = f"{question.call_id}{ASKED_ANEW}{asked}"
            answer = await self._ask(msgspec.structs.replace(question, call_id=call_id))

    async def _ask(self, question: Admission | Knock) -> Answer:
        raw = await self._requester.ask(msgspec.Raw(encode(question)))
        try:
            answer: Answer = decode_answer(raw)
        except (msgspec.MsgspecError, RecursionError):
            raise Unavailable("no-responder", detail="an answer that cannot be read") from None
        return answer
