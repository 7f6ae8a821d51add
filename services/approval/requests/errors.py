"""Maps registry errors to error responses for sockets, in the texts of OpenClaw's protocol. Pure.

Denials do not reveal whether an object exists to callers that may not know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.approval.domain.errors import (
    InsecureGatewayUrl,
    InvalidGatewayUrl,
    InvalidLabel,
    InvalidScope,
    JoinNeedsNode,
    MissingScope,
    NoGatewayUrl,
    NoJoinUrl,
    RegistryError,
    RequestOver,
    TooManySetupCodes,
    UnknownDevice,
    UnknownRequest,
    UnknownRole,
)
from shared.protocol.methods import METHODS
from shared.protocol.refusals import PROTOCOL_3, missing_scope
from shared.protocol.scopes import PAIRING
from shared.rpc.messages import Error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.approval.domain.authorization import Caller

_DENIED: Final[Mapping[str, str]] = {
    "device.pair.approve": "device pairing approval denied",
    "device.pair.reject": "device pairing rejection denied",
    "device.pair.remove": "device pairing removal denied",
    "device.pair.rename": "device pairing rename denied",
    "device.token.rotate": "device token rotation denied",
    "device.token.revoke": "device token revocation denied",
    "node.pair.remove": "node pairing removal denied",
}
_TOKEN_METHODS: Final = frozenset({"device.token.rotate", "device.token.revoke"})


_SETUP_CODES: Final[Mapping[type[RegistryError], str]] = {
    NoGatewayUrl: "No gateway address is known. Set GATEWAY_PUBLIC_URL at the approval service, or"
    " give publicUrl.",
    InvalidGatewayUrl: "Configured publicUrl is invalid.",
    JoinNeedsNode: "Join URLs require bootstrapProfile=node.",
    NoJoinUrl: "Error: Join URLs require a TLS gateway endpoint, except for loopback. Use the setup"
    " code directly for plaintext LAN pairing.",
    TooManySetupCodes: "too many live setup codes; revoke some or wait until they expire",
}
_INSECURE: Final = (
    "Tailscale and public mobile pairing require a secure gateway URL (wss://) or Tailscale"
    " Serve/Funnel. Resolved source: {source}. Fix: set GATEWAY_PUBLIC_URL to the gateways' https://"
    " or wss:// address."
)


def failed(method: str, error: RegistryError, caller: Caller, protocol: int) -> Error:
    """Return the error response of a call; not for StoreUnavailable, whose outcome is unknown."""
    required = METHODS[method].scope if method in METHODS else PAIRING
    if isinstance(error, MissingScope) and error.scope == required:
        refusal = missing_scope(error.scope, protocol)
        return Error(refusal.code, refusal.message, refusal.details)
    if isinstance(error, NoJoinUrl | TooManySetupCodes):
        return Error("UNAVAILABLE", _SETUP_CODES[type(error)])
    return Error("INVALID_REQUEST", _message(method, error, caller, protocol))


def _message(method: str, error: RegistryError, caller: Caller, protocol: int) -> str:
    denied = _DENIED.get(method, "denied")
    if method in _TOKEN_METHODS:
        unknown = isinstance(error, UnknownDevice | UnknownRole)
        return "unknown deviceId/role" if unknown and protocol == PROTOCOL_3 else denied
    if isinstance(error, UnknownRequest | RequestOver):
        hidden = not caller.is_admin if method == "device.pair.approve" else caller.confined
        return denied if hidden else "unknown requestId"
    if isinstance(error, UnknownDevice):
        return "unknown nodeId" if method == "node.describe" else "unknown deviceId"
    if isinstance(error, InsecureGatewayUrl):
        return _INSECURE.format(source=error.source)
    by_type: dict[type[RegistryError], str] = {
        **_SETUP_CODES,
        MissingScope: str(error),
        InvalidScope: f"invalid scope for requested roles: {getattr(error, 'scope', '')}",
        InvalidLabel: "label required",
    }
    return by_type.get(type(error), denied)
