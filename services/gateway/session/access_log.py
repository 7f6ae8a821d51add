"""The access log: one line per connection attempt, with its outcome and advice for operators."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import structlog

from services.gateway import log_events
from services.gateway.handshake.outcome import Accepted
from shared.protocol.closing import CloseCode
from shared.protocol.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.gateway.handshake.handshake import Handshake
    from services.gateway.handshake.outcome import RequestInfo
    from services.gateway.metrics import Metrics
    from services.gateway.replication.recent_refusals import RecentRefusals
    from shared.clock import Clock

LOCAL_ADVICE: Final = (
    "without a device it has no scopes; with GATEWAY_LOCAL_CLIENTS=trust, clients on this machine "
    "keep theirs"
)
ORIGIN_ADVICE: Final = (
    "if pages of this origin may connect, add it to GATEWAY_ALLOWED_ORIGINS at every gateway"
)
_LOGGED_DEVICE_CHARACTERS: Final = 64
_LOGGED_ORIGIN_CHARACTERS: Final = 128
_OUTCOME_OF_CLOSE: Final[dict[int, str]] = {
    CloseCode.NORMAL: "silent",
    CloseCode.TOO_BIG: "too-big",
}
"""The outcome of an attempt that was closed before the handshake completed, by close code."""


class AccessLogger:
    """Logs and counts connection attempts, and records refusals for operators."""

    def __init__(
        self,
        metrics: Metrics,
        clock: Clock,
        approval_public_url: str,
        refusals: RecentRefusals,
    ) -> None:
        self._metrics = metrics
        self._refusals = refusals
        self._clock = clock
        self._approval_public_url = approval_public_url
        self._log = structlog.get_logger("gateway").bind()  # bound once, not for each line

    def log(
        self,
        handshake: Handshake,
        peer: RequestInfo,
        began: float,
        result: Accepted | Refusal | None,
        *,
        closed_with: tuple[int, str] | None,
    ) -> None:
        """Log the outcome of an attempt; `began` is its start in monotonic seconds.

        A `result` of None means that the handshake did not complete: the client left, or the
        gateway closed the connection with the code and reason in `closed_with`.
        """
        now = self._clock.monotonic()
        seconds = now - began
        line: dict[str, object] = {
            "connection": handshake.connection_id,
            "address": peer.address,
            "ms": round(seconds * 1000, 2),
        }
        client = handshake.client
        if client is not None:
            line["client"] = client.id
            line["mode"] = client.mode
            line["protocol"] = handshake.protocol
            line["device"] = handshake.device_id[:_LOGGED_DEVICE_CHARACTERS]
        if isinstance(result, Accepted):
            outcome = "admitted"
            line["role"], line["method"] = result.grant.role, result.grant.method
            if peer.direct_loopback and not result.device_id and not result.grant.scopes:
                line["advice"] = LOCAL_ADVICE
        elif isinstance(result, Refusal):
            outcome = result.outcome
            line |= {"code": int(result.close_code), "reason": result.close_reason}
            line |= self._fields(result)
            self._refusals.note(handshake, peer, result, now)
            if outcome == "origin":
                origin = peer.origin or ""
                line |= {"origin": origin[:_LOGGED_ORIGIN_CHARACTERS], "advice": ORIGIN_ADVICE}
        else:
            outcome = "gone"
            if closed_with is not None:
                code, reason = closed_with
                outcome = _OUTCOME_OF_CLOSE.get(code, "gone")
                line |= {"code": int(code), "reason": reason}
        self._metrics.handshakes.counts[outcome] += 1
        self._metrics.handshake_seconds.observe(seconds)
        self._log.info(log_events.CONNECTION.name, outcome=outcome, **line)

    @contextmanager
    def held_for(self, seconds: float) -> Iterator[None]:
        """Have a line that is logged meanwhile say how long its client was held, if it was."""
        log = self._log
        if seconds > 0:
            self._log = log.bind(held_ms=round(seconds * 1000, 2))
        try:
            yield
        finally:
            self._log = log

    def _fields(self, refusal: Refusal) -> dict[str, object]:
        """Return the extra fields that let an operator act on a refusal."""
        details = (refusal.error.details if refusal.error else None) or {}
        if refusal.outcome == "pairing-required":
            return {
                "reason": "pairing required",
                "why": details["reason"],
                "request_id": details["requestId"],
                "approve_at": self._approval_public_url
                or "the approval service (set APPROVAL_PUBLIC_URL to log its address here)",
            }
        if refusal.outcome == "unavailable":
            return {"dependency": details["dependency"], "why": details["reason"]}
        return {}
