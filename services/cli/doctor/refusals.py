"""Map a gateway's refusal to its cause, which differs between Latchkey and OpenClaw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeGuard

from services.cli.doctor import causes, openclaw_causes, upstream_causes
from services.cli.doctor.checks.upstream import warnings_of_upstream
from services.cli.doctor.checks.websocket import why_closed
from services.cli.doctor.journey import Wrong
from services.cli.doctor.product import Kind
from services.cli.text.words import length
from shared.device.handshake import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.cli.doctor.cause import Cause
    from services.cli.doctor.journey import Journey
    from shared.device.handshake import Outcome

_FOR_THE_UPSTREAM: Final = "startup-sidecars"
"""The reason for telling an admitted client to retry: its upstream is not ready for it."""
LOCK_OUT_MS: Final = 300_000
"""Duration of a lock-out if the gateway does not give one."""
ORIGIN_REFUSED: Final = "CONTROL_UI_ORIGIN_NOT_ALLOWED"
DEVICE_REQUIRED_OF_PAGES: Final = "CONTROL_UI_DEVICE_IDENTITY_REQUIRED"
DEVICE_REQUIRED: Final = "DEVICE_IDENTITY_REQUIRED"
PAIRING_REQUIRED: Final = "PAIRING_REQUIRED"
DEVICE_TOKEN_REFUSED: Final = "AUTH_DEVICE_TOKEN_MISMATCH"  # noqa: S105 (a code)
SECRETS_REFUSED: Final = frozenset(
    {
        causes.TOKEN_WRONG,
        causes.LOCKED_OUT,
        openclaw_causes.TOKEN_WRONG,
        openclaw_causes.PASSWORD_WANTED,
        openclaw_causes.LOCKED_OUT,
    }
)
"""Further attempts count against the address."""

_BY_CODE: Final[Mapping[str, Cause]] = {
    "PROTOCOL_MISMATCH": causes.PROTOCOL_MISMATCH,
    ORIGIN_REFUSED: causes.ORIGIN_REFUSED,
    DEVICE_REQUIRED_OF_PAGES: causes.INSECURE_PAGE,
    "AUTH_TOKEN_MISSING": causes.TOKEN_MISSING,
    "AUTH_TOKEN_MISMATCH": causes.TOKEN_WRONG,
    "AUTH_RATE_LIMITED": causes.LOCKED_OUT,
    DEVICE_TOKEN_REFUSED: causes.DEVICE_TOKEN_VOID,
    "AUTH_SCOPE_MISMATCH": causes.SCOPES_PENDING,
    "DEVICE_AUTH_SIGNATURE_EXPIRED": causes.SIGNATURE_STALE,
}
_BY_PAIRING: Final[Mapping[str, Cause]] = {
    "not-paired": causes.PAIRING_REQUIRED,
    "scope-upgrade": causes.SCOPES_PENDING,
    "role-upgrade": causes.ROLE_PENDING,
    "metadata-upgrade": causes.DETAILS_PENDING,
}
_OF_OPENCLAW: Final[Mapping[str, Cause]] = {
    ORIGIN_REFUSED: openclaw_causes.ORIGIN_REFUSED,
    PAIRING_REQUIRED: openclaw_causes.PAIRING_REQUIRED,
    "AUTH_TOKEN_MISSING": openclaw_causes.TOKEN_MISSING,
    "AUTH_TOKEN_MISMATCH": openclaw_causes.TOKEN_WRONG,
    "AUTH_PASSWORD_MISSING": openclaw_causes.PASSWORD_WANTED,
    "AUTH_PASSWORD_MISMATCH": openclaw_causes.PASSWORD_WANTED,
    "AUTH_RATE_LIMITED": openclaw_causes.LOCKED_OUT,
    "AUTH_IDENTITY_HEADER_REQUIRED": openclaw_causes.LOGIN_BY_PROXY,
    "AUTH_VERIFIED_USER_REQUIRED": openclaw_causes.LOGIN_BY_PROXY,
    DEVICE_TOKEN_REFUSED: openclaw_causes.DEVICE_FORGOTTEN,
    "AUTH_SCOPE_MISMATCH": openclaw_causes.UPGRADE_PENDING,
}


def wrong(journey: Journey, outcome: Refused) -> Wrong:
    """Return the error for a refused connection."""
    if outcome.error is None:
        return why_closed(outcome.close) if outcome.close else Wrong(causes.CUT, "no response")
    if outcome.code == "UNAVAILABLE":
        return _unavailable(journey, outcome)
    where = f" (connection {outcome.connection_id})" if outcome.connection_id else ""
    return Wrong(
        _cause(journey, outcome),
        f"{outcome.message}{where}",
        request_id=outcome.request_id or "REQUEST-ID",
        device_id=journey.key.device_id,
        origin=journey.options.origin or journey.origin,
        wait=length(outcome.retry_after_ms or LOCK_OUT_MS),
    )


def has_to_come_back(outcome: Outcome) -> TypeGuard[Refused]:
    """Return whether a client is admitted but told to retry because of the upstream."""
    return isinstance(outcome, Refused) and outcome.details.get("reason") == _FOR_THE_UPSTREAM


def _cause(journey: Journey, outcome: Refused) -> Cause:
    code, reason = outcome.detail_code, str(outcome.details.get("reason"))
    if code.startswith("DEVICE_AUTH_"):
        return _BY_CODE.get(code, causes.PROOF_REFUSED)
    if not code and "protocol mismatch" in outcome.message:  # releases of protocol 3
        return causes.PROTOCOL_MISMATCH
    cause = None
    if journey.product.kind is Kind.OPENCLAW:
        cause = _cause_at_openclaw(outcome)
    elif code == PAIRING_REQUIRED:
        cause = _BY_PAIRING.get(reason, causes.PAIRING_REQUIRED)
    return cause or _BY_CODE.get(code, causes.NOT_A_GATEWAY)


def _cause_at_openclaw(outcome: Refused) -> Cause:
    code = outcome.detail_code
    if code == PAIRING_REQUIRED and outcome.details.get("reason") != "not-paired":
        return openclaw_causes.UPGRADE_PENDING
    by_proxy = str(outcome.details.get("authReason")).startswith("trusted_proxy_")
    if by_proxy or code.startswith("AUTH_TAILSCALE_"):
        return openclaw_causes.LOGIN_BY_PROXY
    shared = _BY_CODE.get(code, openclaw_causes.REFUSED)
    return _OF_OPENCLAW.get(code, shared)


def _unavailable(journey: Journey, outcome: Refused) -> Wrong:
    if journey.product.kind is Kind.OPENCLAW:
        return Wrong(openclaw_causes.STARTING, outcome.message)
    reason = outcome.details.get("reason")
    if reason == _FOR_THE_UPSTREAM:
        received = warnings_of_upstream(journey.ready) if journey.ready is not None else []
        cause, why = received[0] if received else (upstream_causes.REFUSES, "")
        return Wrong(cause, outcome.message, reason=why)
    if reason == "pending-limit":
        return Wrong(causes.PENDING_FULL, outcome.message)
    if outcome.details.get("dependency") == "redis":
        return Wrong(causes.REDIS_AWAY, outcome.message)
    if reason in {"no-responder", "no-lease"}:
        return Wrong(causes.APPROVAL_AWAY, outcome.message)
    return Wrong(causes.NO_ANSWER, outcome.message)
