"""A session whose client may be held until its device is approved.

Used only if clients may be held at all, so that other gateways pay nothing for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from services.gateway.connections.held import Held, HoldEnd
from services.gateway.connections.hub import RESTART_REASON
from services.gateway.handshake.holding import HoldLimit, hold_limit
from services.gateway.session.handler import SessionHandler
from shared.bus.errors import Unavailable
from shared.protocol.closing import CloseCode
from shared.rpc.messages import ASKED_ANEW, NeedsPairing

if TYPE_CHECKING:
    from services.gateway.connections.connection import Connection
    from services.gateway.handshake.handshake import Handshake
    from services.gateway.handshake.outcome import Accepted, RequestInfo
    from services.gateway.session.context import SessionContext
    from shared.protocol.refusals import Refusal
    from shared.rpc.messages import Answer

_AFTER_HOLD: Final = "held-"
"""Names the questions after a hold: each is another question, not another attempt of the first."""


class HoldingSession(SessionHandler):
    """Serves one socket; "pairing required" may have to wait for a decision."""

    __slots__ = ("_answer", "_held_seconds", "_held_since", "_holds", "_limit", "_until")

    def __init__(
        self,
        context: SessionContext,
        connection: Connection,
        handshake: Handshake,
        request: RequestInfo,
    ) -> None:
        super().__init__(context, connection, handshake, request)
        self._answer: NeedsPairing | None = None
        """The answer that is withheld from the client."""
        self._held_since: float | None = None
        """Since when the client is held now, in monotonic seconds."""
        self._held_seconds = 0.0
        """How long it was held, without the time since then."""
        self._holds = 0
        self._limit: HoldLimit | None = None
        self._until = 0.0
        """Until when it may be held, in monotonic seconds; known from the first hold on."""

    def _finish(self, result: Answer | Unavailable | Accepted | Refusal) -> None:
        """Carry out the outcome, unless the client is held instead."""
        if not (isinstance(result, NeedsPairing) and self._hold(result)):
            self._finish_now(result)

    def end_hold(self, end: HoldEnd, request_id: str) -> None:
        """Ask again if the device was approved; else tell the client what it could not wait for."""
        handshake, answer = self._handshake, self._answer
        self._stop_clock()
        if handshake is None or answer is None or handshake.question is None:
            return
        if end is HoldEnd.GRANTED:
            # The proof was verified on this socket, for this nonce: it is the same `connect`.
            call_id = f"{handshake.connection_id}{ASKED_ANEW}{_AFTER_HOLD}{self._holds}"
            question = replace(handshake.question, call_id=call_id)
            self._context.approvals.request(question, self._finish)
        elif end is HoldEnd.UNAVAILABLE:
            self._finish_now(Unavailable("no-lease"))
        elif end is HoldEnd.RESTART and self._limit is not None and self._limit.reconnects:
            self._asked = False
            self._context.connections.close(self._connection, CloseCode.RESTART, RESTART_REASON)
        else:
            self._finish_now(replace(answer, request_id=request_id))

    def on_lost(self) -> None:
        """Log a held client that left, like any other that left before its handshake ended."""
        if self._held_since is not None:
            self._stop_clock()
            self._asked = False
        with self._context.access_log.held_for(self._held_seconds):
            super().on_lost()

    def _hold(self, answer: NeedsPairing) -> bool:
        """Hold the client if it may be; return whether it is held."""
        handshake, connection = self._handshake, self._connection
        question = None if handshake is None else handshake.question
        if question is None or connection.stopped:
            return False
        connections = self._context.connections
        now = self._context.clock.monotonic()
        if self._limit is None:
            self._limit = hold_limit(question)
            if self._limit is None:
                return False
            seconds = min(self._limit.seconds, connections.held.limits.seconds)
            self._until = self._began + seconds
        held = Held(connection, self, question.device_id, answer.request_id, self._until)
        if now >= self._until or not connections.hold(held):
            return False
        self._answer, self._held_since = answer, now
        self._holds += 1
        return True

    def _stop_clock(self) -> None:
        """Count the time of the hold, which is not part of the time that admitting takes."""
        if self._held_since is not None:
            seconds = self._context.clock.monotonic() - self._held_since
            self._held_since = None
            self._held_seconds += seconds
            self._began += seconds

    def _finish_now(self, result: Answer | Unavailable | Accepted | Refusal) -> None:
        with self._context.access_log.held_for(self._held_seconds):
            super()._finish(result)
