"""Every way a handshake can end without hello-ok.

A Refusal is the complete response: the error frame (None if the socket is only closed), the close
code and its reason. `outcome` is its name in logs and metrics.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from shared.protocol.closing import CloseCode
from shared.protocol.frames import ErrorBody

if TYPE_CHECKING:
    from collections.abc import Sequence

PROTOCOL_3 = 3
JOINING: Final = "joining"
"""Outcome of a handshake whose client is to retry at once, and is connected upstream then."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """How to refuse a connection."""

    outcome: str
    close_code: CloseCode
    close_reason: str
    error: ErrorBody | None = None

    def with_detail(self, name: str, value: object) -> Refusal:
        """Return the same refusal with one more detail, if it has an error frame."""
        if self.error is None:
            return self
        details = {**(self.error.details or {}), name: value}
        error = ErrorBody(
            self.error.code,
            self.error.message,
            details,
            self.error.retryable,
            self.error.retry_after_ms,
        )
        return replace(self, error=error)


def _policy(
    outcome: str, message: str, details: dict[str, Any] | None = None, code: str = "INVALID_REQUEST"
) -> Refusal:
    return Refusal(outcome, CloseCode.POLICY, message, ErrorBody(code, message, details))


# Before a `connect` was received: the socket is closed without an error frame.

TOO_BIG = Refusal("too-big", CloseCode.TOO_BIG, "")
NOT_JSON = Refusal("not-json", CloseCode.NORMAL, "")
WORKER = Refusal("worker", CloseCode.POLICY, "invalid-handshake")
INVALID_FRAME = Refusal("invalid-frame", CloseCode.POLICY, "invalid request frame")
TOO_MANY_FRAMES = Refusal("too-many-frames", CloseCode.POLICY, "too many pending handshake frames")

# The `connect` itself is invalid.

NOT_CONNECT = _policy("not-connect", "invalid handshake: first request must be connect")
INVALID_ROLE = _policy("invalid-role", "invalid role")


def invalid_params(problems: Sequence[str], protocol: int) -> Refusal:
    """Refuse params that do not match the schema.

    Protocol 3 lists all problems, protocol 4 the first one.
    """
    message = "; ".join(problems) if protocol == PROTOCOL_3 else problems[0]
    return _policy("invalid-params", f"invalid connect params: {message}")


def protocol_mismatch(client_min: int, client_max: int) -> Refusal:
    """Refuse a client that supports neither protocol version."""
    message = "protocol mismatch"
    error = ErrorBody("INVALID_REQUEST", message, mismatch_details(client_min, client_max))
    return Refusal("protocol-mismatch", CloseCode.PROTOCOL_MISMATCH, message, error)


def mismatch_details(client_min: int, client_max: int) -> dict[str, Any]:
    """Return the details of the error for a client whose protocol is not spoken here."""
    return {
        "code": "PROTOCOL_MISMATCH",
        "clientMinProtocol": client_min,
        "clientMaxProtocol": client_max,
        "expectedProtocol": 4,
        "minimumProbeProtocol": PROTOCOL_3,
    }


def upstream_protocol(code: str, details: dict[str, Any], expected: int | None) -> Refusal:
    """Refuse a client that does not speak the protocol of the OpenClaw behind the gateway."""
    message = "protocol mismatch"
    if expected is not None:
        message += f": the OpenClaw behind this gateway needs protocol {expected}"
    error = ErrorBody(code, message, details)
    return Refusal("upstream-protocol", CloseCode.PROTOCOL_MISMATCH, message, error)


def origin_not_allowed(reason: str) -> Refusal:
    """Refuse a foreign origin; reason: `origin not allowed` or `origin missing or invalid`."""
    return _policy(
        "origin",
        "origin not allowed (open the Control UI from the gateway host or allow it in "
        "GATEWAY_ALLOWED_ORIGINS)",
        {"code": "CONTROL_UI_ORIGIN_NOT_ALLOWED", "reason": reason},
    )


# The device's proof of identity.

DEVICE_REQUIRED = _policy(
    "device-required",
    "device identity required",
    {"code": "DEVICE_IDENTITY_REQUIRED"},
    code="NOT_PAIRED",
)
CONTROL_UI_DEVICE_REQUIRED = _policy(
    "control-ui-device-required",
    "control ui requires device identity (use HTTPS or localhost secure context)",
    {"code": "CONTROL_UI_DEVICE_IDENTITY_REQUIRED"},
)


def _device(message: str, code: str, reason: str) -> Refusal:
    return _policy(reason, message, {"code": code, "reason": reason})


DEVICE_ID_MISMATCH = _device(
    "device identity mismatch", "DEVICE_AUTH_DEVICE_ID_MISMATCH", "device-id-mismatch"
)
SIGNATURE_EXPIRED = _device(
    "device signature expired", "DEVICE_AUTH_SIGNATURE_EXPIRED", "device-signature-stale"
)
NONCE_REQUIRED = _device(
    "device nonce required", "DEVICE_AUTH_NONCE_REQUIRED", "device-nonce-missing"
)
NONCE_MISMATCH = _device(
    "device nonce mismatch", "DEVICE_AUTH_NONCE_MISMATCH", "device-nonce-mismatch"
)
SIGNATURE_INVALID = _device(
    "device signature invalid", "DEVICE_AUTH_SIGNATURE_INVALID", "device-signature"
)

# Secrets.


def _unauthorized(
    reason: str,
    message: str,
    code: str,
    next_step: str,
    *,
    can_retry_with_device_token: bool = False,
) -> Refusal:
    details = {
        "code": code,
        "authReason": reason,
        "canRetryWithDeviceToken": can_retry_with_device_token,
        "recommendedNextStep": next_step,
    }
    return _policy(reason.replace("_", "-"), f"unauthorized: {message}", details)


def token_hint(client_id: str, client_mode: str, *, missing: bool, local: bool) -> str:
    """Return what the user should do about the gateway token, depending on the client."""
    if client_mode == "cli":
        if local:
            return "use this gateway's gateway.auth.token or pair the device"
        return "set gateway.remote.token to match gateway.auth.token"
    if client_id == "openclaw-control-ui" or client_mode == "webchat":
        if missing:
            return (
                "paste in Control UI settings or openclaw doctor --generate-gateway-token; restart"
            )
        return "open the dashboard URL and paste the token in Control UI settings"
    return "provide gateway auth token"


def token_mismatch(hint: str, *, with_device: bool) -> Refusal:
    """Refuse a wrong gateway token."""
    return _unauthorized(
        "token_mismatch",
        f"gateway token mismatch ({hint})",
        "AUTH_TOKEN_MISMATCH",
        "retry_with_device_token" if with_device else "update_auth_credentials",
        can_retry_with_device_token=with_device,
    )


def token_missing(hint: str) -> Refusal:
    """Refuse a device that offers no secret."""
    return _unauthorized(
        "token_missing",
        f"gateway token missing ({hint})",
        "AUTH_TOKEN_MISSING",
        "update_auth_configuration",
    )


DEVICE_TOKEN_MISMATCH = _unauthorized(
    "device_token_mismatch",
    "device token mismatch (rotate/reissue device token)",
    "AUTH_DEVICE_TOKEN_MISMATCH",
    "update_auth_credentials",
)
SCOPE_MISMATCH = _unauthorized(
    "scope_mismatch",
    "device token scope mismatch (re-pair or approve scope upgrade)",
    "AUTH_SCOPE_MISMATCH",
    "review_auth_configuration",
)


def bootstrap_token_invalid(protocol: int) -> Refusal:
    """Refuse a setup code; this gateway issues none."""
    message = (
        "bootstrap token invalid or expired (scan a fresh setup code)"
        if protocol == PROTOCOL_3
        else "setup code invalid, expired, revoked, or already used "
        "(create a new code; review `openclaw devices list`)"
    )
    return _unauthorized(
        "bootstrap_token_invalid",
        message,
        "AUTH_BOOTSTRAP_TOKEN_INVALID",
        "review_auth_configuration",
    )


def rate_limited(retry_after_ms: int) -> Refusal:
    """Refuse a client with too many wrong secrets, even if the current one is right."""
    refusal = _unauthorized(
        "rate_limited",
        "too many failed authentication attempts (retry later)",
        "AUTH_RATE_LIMITED",
        "wait_then_retry",
    )
    error = ErrorBody(
        "INVALID_REQUEST",
        refusal.close_reason,
        refusal.error.details if refusal.error else None,
        retryable=True,
        retry_after_ms=retry_after_ms,
    )
    return replace(refusal, error=error)


# Pairing.

_PAIRING = {
    "not-paired": (
        "device is not approved yet",
        "Approve this device from the pending pairing requests.",
    ),
    "role-upgrade": (
        "device is asking for a higher role than currently approved",
        "Review the requested role upgrade, then approve the pending request.",
    ),
    "scope-upgrade": (
        "device is asking for more scopes than currently approved",
        "Review the requested scopes, then approve the pending upgrade.",
    ),
    "metadata-upgrade": (
        "device identity changed and must be re-approved",
        "Review the refreshed device details, then approve the pending request.",
    ),
}


@dataclass(frozen=True, slots=True)
class PairingNeeded:
    """Why a device needs a person's approval, and the id of its request."""

    reason: str
    request_id: str
    device_id: str
    role: str
    scopes: Sequence[str]
    approved_roles: Sequence[str] | None
    approved_scopes: Sequence[str] | None
    waits_itself: bool
    """The client is a dashboard that can be told to retry by itself."""
    approval_url: str = ""
    """Where people reach the approval service; empty if unknown."""


def pairing_required(needed: PairingNeeded, protocol: int) -> Refusal:
    """Refuse a device that needs approval first."""
    what, hint = _PAIRING[needed.reason]
    if protocol == PROTOCOL_3:
        message = "pairing required"
        details: dict[str, Any] = {
            "code": "PAIRING_REQUIRED",
            "requestId": needed.request_id,
            "reason": needed.reason,
            **_where(needed),
        }
        error = ErrorBody("NOT_PAIRED", message, details)
        return Refusal("pairing-required", CloseCode.POLICY, message, error)
    message = f"pairing required: {what}"
    details = {
        "code": "PAIRING_REQUIRED",
        "reason": needed.reason,
        "requestId": needed.request_id,
        "remediationHint": _hint(hint, needed),
    }
    if needed.waits_itself:
        details |= {
            "recommendedNextStep": "wait_then_retry",
            "retryable": True,
            "pauseReconnect": False,
        }
    details |= {"deviceId": needed.device_id, "requestedRole": needed.role}
    if needed.scopes:
        details["requestedScopes"] = list(needed.scopes)
    if needed.approved_roles is not None:
        details["approvedRoles"] = sorted(needed.approved_roles)
    if needed.approved_scopes is not None:
        details["approvedScopes"] = sorted(needed.approved_scopes)
    details |= _where(needed)
    error = ErrorBody("NOT_PAIRED", message, details)
    reason = f"{message} (requestId: {needed.request_id})"
    return Refusal("pairing-required", CloseCode.POLICY, reason, error)


def _hint(hint: str, needed: PairingNeeded) -> str:
    """Append the approval URL to the hint, which `openclaw status` prints."""
    if not needed.approval_url:
        return hint
    return f"{hint.removesuffix('.')} at {needed.approval_url}/setup"


def _where(needed: PairingNeeded) -> dict[str, str]:
    """Return the approval URL in an additional field, which OpenClaw's clients ignore."""
    return {"approvalUrl": needed.approval_url} if needed.approval_url else {}


# Calls after hello.


def missing_scope(scope: str, protocol: int) -> ErrorBody:
    """Return the error for a method that requires a scope the connection does not hold."""
    message = f"missing scope: {scope}"
    if protocol == PROTOCOL_3:
        return ErrorBody("INVALID_REQUEST", message)
    details = {"code": "MISSING_SCOPE", "missingScope": scope, "requiredScopes": [scope]}
    return ErrorBody("FORBIDDEN", message, details)


# An unavailable dependency is not a refusal: the client is asked to reconnect.


def unavailable(reason: str, dependency: str, retry_after_ms: int) -> Refusal:
    """Refuse a client temporarily; `dependency` did not respond, `reason` says how."""
    how = f" ({reason})" if reason != dependency else ""
    error = ErrorBody(
        "UNAVAILABLE",
        f"{dependency} unavailable{how}; retry shortly",
        {"code": "UNAVAILABLE", "reason": reason, "dependency": dependency},
        retryable=True,
        retry_after_ms=retry_after_ms,
    )
    return Refusal("unavailable", CloseCode.TRY_AGAIN, f"{dependency} unavailable", error)


def starting(retry_after_ms: int, *, routine: bool) -> Refusal:
    """Tell an admitted client to retry: the gateway behind this one is not ready for it yet.

    `routine`: it is expected, as after a device's first approval, so it is not reported as a
    refusal. Command line, dashboard and node host retry by themselves only with exactly this text.
    """
    message = "gateway starting; retry shortly"
    error = ErrorBody(
        "UNAVAILABLE",
        message,
        {"reason": "startup-sidecars"},
        retryable=True,
        retry_after_ms=retry_after_ms,
    )
    outcome = JOINING if routine else "upstream"
    return Refusal(outcome, CloseCode.TRY_AGAIN, "gateway starting", error)
