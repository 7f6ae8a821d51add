"""hello-ok, in the forms of protocols 4 and 3."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from shared.protocol.frames import Success, encode
from shared.protocol.limits import (
    BUFFERED_LIMIT_BYTES,
    FRAME_LIMIT_BYTES,
    TICK_INTERVAL_MS,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


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


class Features(msgspec.Struct, frozen=True):
    """The methods and events that this gateway supports."""

    methods: Sequence[str]
    events: Sequence[str]

    def encoded(self) -> msgspec.Raw:
        """Encode the features once for all connections."""
        return msgspec.Raw(encode(self))


@cache
def _policy(max_payload_bytes: int) -> msgspec.Raw:
    policy = {
        "maxPayload": max_payload_bytes,
        "maxBufferedBytes": BUFFERED_LIMIT_BYTES,
        "tickIntervalMs": TICK_INTERVAL_MS,
    }
    return msgspec.Raw(encode(policy))


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
    payload: dict[str, Any] = {
        "type": "hello-ok",
        "protocol": protocol,
        "server": {"version": version, "connId": connection_id},
        "features": features,
        "snapshot": {
            "presence": [],
            "health": {},
            "stateVersion": {"presence": 0, "health": 0},
            "uptimeMs": uptime_ms,
        },
        "policy": _policy(max_payload_bytes),
    }
    auth = _auth_v3(grant) if protocol == 3 else _auth_v4(grant)  # noqa: PLR2004 (a version)
    if auth is not None:
        payload["auth"] = auth
    return encode(Success(frame_id, ok=True, payload=payload))


def _auth_v4(grant: Grant) -> dict[str, Any]:
    auth: dict[str, Any] = {
        "method": grant.method,
        "role": grant.role,
        "scopes": grant.scopes,
    }
    if grant.device_token:
        auth["deviceToken"] = grant.device_token
        auth["issuedAtMs"] = grant.issued_at_ms
    return auth


def _auth_v3(grant: Grant) -> dict[str, Any] | None:
    if not grant.device_token:
        return None
    return {
        "deviceToken": grant.device_token,
        "role": grant.role,
        "scopes": grant.token_scopes,
        "issuedAtMs": grant.issued_at_ms,
    }
