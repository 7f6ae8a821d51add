"""What the upstream's response to `connect` means for a client that was admitted here. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from services.gateway.relay.rules import rewriting
from shared.protocol import refusals
from shared.protocol.methods import advertised

if TYPE_CHECKING:
    from services.gateway.handshake.outcome import Accepted
    from services.gateway.relay.rules.rewriting import Joined
    from shared.protocol.refusals import Refusal

_ERROR_CODE: Final = re.compile("[A-Z][A-Z_]{0,63}")
"""What may be a label: the upstream's words are not ours."""
_UNREADABLE: Final = {"code": "UNREADABLE", "message": "its answer to connect is not readable"}


class Refused(NamedTuple):
    """The upstream refused the client; `details` are those of its error."""

    error_code: str
    message: str
    details: dict[str, Any]
    pairing_request: str | None = None
    """The upstream's request to pair the device ("": not named), if it is to be approved."""

    @property
    def code(self) -> str:
        """The most exact code of the refusal."""
        return str(self.details.get("code") or self.error_code)

    @property
    def refusal(self) -> Refusal | None:
        """The refusal of a client whose protocol the upstream does not speak; else None."""
        if self.details.get("code") != "PROTOCOL_MISMATCH":
            return None
        expected = self.details.get("expectedProtocol")
        return refusals.upstream_protocol(
            self.error_code, self.details, expected if isinstance(expected, int) else None
        )

    @property
    def label(self) -> str:
        """The code as a label of a metric."""
        return self.code if _ERROR_CODE.fullmatch(self.code) else "OTHER"


def read_connect_response(frame: bytes, admitted: Accepted) -> Joined | Refused | None:
    """Return the hello-ok for the client, or the refusal; None if the frame is no response."""
    own = advertised(admitted.protocol)
    try:
        response = rewriting.read_response(frame)
        if response.type != "res":
            return None
        if not response.ok:
            return _refused(response.error, admitted)
        return rewriting.client_hello(
            frame, admitted.grant, own_methods=own, protocol=admitted.protocol
        )
    except (msgspec.MsgspecError, KeyError):
        return _refused(_UNREADABLE, admitted)


def _refused(error: dict[str, Any], admitted: Accepted) -> Refused:
    details = error.get("details")
    if not isinstance(details, dict):
        details = {}
    pairs = details.get("code") == "PAIRING_REQUIRED" and _asks_what_was_admitted(details, admitted)
    return Refused(
        str(error.get("code")),
        str(error.get("message")),
        details,
        str(details.get("requestId", "")) if pairs else None,
    )


def _asks_what_was_admitted(details: dict[str, Any], admitted: Accepted) -> bool:
    """Return whether the upstream asks to pair this device with no more than was granted here."""
    role = details.get("requestedRole", admitted.grant.role)
    scopes = details.get("requestedScopes", [])
    return (
        details.get("deviceId") == admitted.device_id
        and role == admitted.grant.role
        and isinstance(scopes, list)
        and set(map(str, scopes)) <= set(admitted.grant.scopes)
    )


def is_covered(request: dict[str, Any], admitted: Accepted) -> bool:
    """Return whether a request of the upstream's list is of this device, and covered here."""
    roles = request.get("roles") or [request.get("role", admitted.grant.role)]
    return isinstance(roles, list) and all(
        _asks_what_was_admitted(
            {
                "deviceId": request.get("deviceId"),
                "requestedRole": role,
                "requestedScopes": request.get("scopes") or [],
            },
            admitted,
        )
        for role in roles
    )
