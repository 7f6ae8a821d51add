"""Expected refusals: error objects and close codes.

Each error also carries `details.connectionId`. Deliberate differences from OpenClaw are tested in
test_order.
"""

from __future__ import annotations

from typing import Any, Final

from shared.rpc.messages import Denied, Position
from tests.support.attempts import CONNECTION_ID

NOW: Final = Position(1, "tag")
WRONG_DEVICE_TOKEN: Final = Denied(NOW, "device-token-mismatch")

HINT_CLI_LOCAL: Final = "use this gateway's gateway.auth.token or pair the device"
HINT_CLI_REMOTE: Final = "set gateway.remote.token to match gateway.auth.token"
HINT_PAGE: Final = "open the dashboard URL and paste the token in Control UI settings"
HINT_PAGE_MISSING: Final = (
    "paste in Control UI settings or openclaw doctor --generate-gateway-token; restart"
)
HINT_OTHERS: Final = "provide gateway auth token"


def row(
    message: str,
    details: dict[str, Any] | None = None,
    *,
    code: str = "INVALID_REQUEST",
    close_code: int = 1008,
    reason: str | None = None,
    **more: Any,
) -> tuple[dict[str, Any], int, str]:
    """Return the client's expected view; the close reason is the message by default."""
    details = {**(details or {}), "connectionId": CONNECTION_ID}
    error = {"code": code, "message": message, "details": details, **more}
    return error, close_code, (message if reason is None else reason).encode()[:120].decode()


def unauthorized(
    message: str, code: str, reason: str, step: str, *, can_retry: bool = False
) -> tuple[dict[str, Any], int, str]:
    return row(
        f"unauthorized: {message}",
        {
            "code": code,
            "authReason": reason,
            "canRetryWithDeviceToken": can_retry,
            "recommendedNextStep": step,
        },
    )


def mismatch(hint: str, *, with_device: bool) -> tuple[dict[str, Any], int, str]:
    return unauthorized(
        f"gateway token mismatch ({hint})",
        "AUTH_TOKEN_MISMATCH",
        "token_mismatch",
        "retry_with_device_token" if with_device else "update_auth_credentials",
        can_retry=with_device,
    )


def missing(hint: str) -> tuple[dict[str, Any], int, str]:
    return unauthorized(
        f"gateway token missing ({hint})",
        "AUTH_TOKEN_MISSING",
        "token_missing",
        "update_auth_configuration",
    )
