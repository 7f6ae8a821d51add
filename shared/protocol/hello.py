"""hello-ok, in the forms of protocols 4 and 3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from shared.protocol.frames import encode
from shared.protocol.limits import (
    BUFFERED_LIMIT_BYTES,
    FRAME_LIMIT_BYTES,
    TICK_INTERVAL_MS,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


class MoreToken(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """A device token for a further role, as hello-ok has it."""

    device_token: str
    role: str
    scopes: Sequence[str]
    issued_at_ms: int


class Grant(msgspec.Struct, frozen=True, gc=False):
    """What a connection is authorized to do, and the device token issued to it.

    `scopes` are those of the connection, in request order; `token_scopes` those of the device
    token.
    """

    method: str
    role: str
    scopes: Sequence[str]
    device_token: str = ""
    token_scopes: Sequence[str] = ()
    issued_at_ms: int = 0
    more_tokens: Sequence[MoreToken] = ()


class Features(msgspec.Struct, frozen=True):
    """The methods and events that this gateway supports."""

    methods: Sequence[str]
    events: Sequence[str]

    def encoded(self) -> msgspec.Raw:
        """Encode the features once for all connections."""
        return msgspec.Raw(encode(self))


_HELLO_OK: Final = (
    b'{"type":"res","id":%%b,"ok":true,"payload":{"type":"hello-ok","protocol":%%d,'
    b'"server":{"version":%%b,"connId":%%b},"features":%%b,'
    b'"snapshot":{"presence":[],"health":{},"stateVersion":{"presence":0,"health":0},'
    b'"uptimeMs":%%d},'
    b'"policy":{"maxPayload":%%d,"maxBufferedBytes":%d,"tickIntervalMs":%d}%%b}}'
) % (BUFFERED_LIMIT_BYTES, TICK_INTERVAL_MS)
"""Filling in this template takes half as long as encoding the whole message."""


def hello_ok(
    frame_id: str,
    *,
    protocol: int,
    version: str,
    connection_id: str,
    features: msgspec.Raw,
    grant: Grant,
    uptime_ms: int,
    max_payload_bytes: int = FRAME_LIMIT_BYTES,
) -> bytes:
    """Encode hello-ok; `features` are already encoded."""
    auth = _auth_v3(grant) if protocol == 3 else _auth_v4(grant)  # noqa: PLR2004 (a version)
    return _HELLO_OK % (
        encode(frame_id),
        protocol,
        encode(version),
        encode(connection_id),
        features,
        uptime_ms,
        max_payload_bytes,
        b"" if auth is None else b',"auth":%b' % encode(auth),
    )


def _auth_v4(grant: Grant) -> dict[str, Any]:
    auth: dict[str, Any] = {
        "method": grant.method,
        "role": grant.role,
        "scopes": grant.scopes,
    }
    if grant.device_token:
        auth["deviceToken"] = grant.device_token
        auth["issuedAtMs"] = grant.issued_at_ms
    if grant.more_tokens:
        auth |= more_tokens(grant)
    return auth


def _auth_v3(grant: Grant) -> dict[str, Any] | None:
    if not grant.device_token:
        return None
    return {
        "deviceToken": grant.device_token,
        "role": grant.role,
        "scopes": grant.token_scopes,
        "issuedAtMs": grant.issued_at_ms,
        **more_tokens(grant),
    }


def more_tokens(grant: Grant) -> dict[str, Any]:
    """Return the field with the tokens of further roles; none without them."""
    return {"deviceTokens": grant.more_tokens} if grant.more_tokens else {}
