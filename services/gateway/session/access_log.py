"""One line per connection attempt: how it ended, for whom, and what a person can do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from services.gateway import log_events
from services.gateway.handshake.outcome import Accepted
from shared.protocol.closing import CloseCode
from shared.protocol.refusals import Refusal

if TYPE_CHECKING:
    from prometheus_client import Counter

    from services.gateway.handshake.handshake import Handshake
    from services.gateway.handshake.outcome import RequestInfo
    from services.gateway.metrics import Metrics
    from services.gateway.replication.recent_refusals import RecentRefusals
    from shared.clock import Clock

LOCAL_ADVICE: Final = (
    "without a device it holds no scope; GATEWAY_LOCAL_CLIENTS=trust lets clients of this machine "
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
"""How an attempt ended that was closed before there was a verdict."""


class AccessLogger:
    """Logs and counts connection attempts, and notes for operators who was turned away."""

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
        self._counts: dict[str, Counter] = {}
        self._log = structlog.get_logger("gateway").bind()  # asked anew for each line otherwise

    def log(
        self,
        handshake: Handshake,
        peer: RequestInfo,
        began: float,
        verdict: Accepted | Refusal | None,
        *,
        closed_with: tuple[int, str] | None,
    ) -> None:
        """Tell how an attempt ended that began at this point in monotonic time.

        Without a verdict the client left, or was closed with this code and reason before one.
        """
        now = self._clock.monotonic()
        took = now - began
        line: dict[str, object] = {
            "connection": handshake.connection_id,
            "address": peer.address,
            "ms": round(took * 1000, 2),
        }
        client = handshake.client
        if client is not None:
            line["client"] = client.id
            line["mode"] = client.mode
            line["protocol"] = handshake.protocol
            line["device"] = handshake.device_id[:_LOGGED_DEVICE_CHARACTERS]
        if isinstance(verdict, Accepted):
            outcome = "admitted"
            line |= {"role": verdict.grant.role, "method": verdict.grant.method}
            if peer.direct_loopback and not verdict.device_id and not verdict.grant.scopes:
                line["advice"] = LOCAL_ADVICE
        elif isinstance(verdict, Refusal):
            outcome = verdict.outcome
            line |= {"code": int(verdict.close_code), "reason": verdict.close_reason}
            line |= self._fields(verdict)
            self._refusals.note(handshake, peer, verdict, now)
            if outcome == "origin":
                origin = peer.origin or ""
                line |= {"origin": origin[:_LOGGED_ORIGIN_CHARACTERS], "advice": ORIGIN_ADVICE}
        else:
            outcome = "gone"
            if closed_with is not None:
                code, reason = closed_with
                outcome = _OUTCOME_OF_CLOSE.get(code, "gone")
                line |= {"code": int(code), "reason": reason}
        count = self._counts.get(outcome)
        if count is None:
            count = self._counts[outcome] = self._metrics.handshakes.labels(outcome)
        count.inc()
        self._metrics.handshake_seconds.observe(took)
        self._log.info(log_events.CONNECTION.name, outcome=outcome, **line)

    def _fields(self, refusal: Refusal) -> dict[str, object]:
        """Return what a person needs to act on this refusal."""
        details = (refusal.error.details if refusal.error else None) or {}
        if refusal.outcome == "pairing-required":
            return {
                "reason": "pairing required",
                "why": details["reason"],
                "request_id": details["requestId"],
                "approve_at": self._approval_public_url
                or "the approval service: set APPROVAL_PUBLIC_URL to have its address here",
            }
        if refusal.outcome == "unavailable":
            return {"dependency": details["dependency"], "why": details["reason"]}
        return {}
