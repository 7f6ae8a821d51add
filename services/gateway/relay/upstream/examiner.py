"""Connects to the upstream as the gateway itself, and reads its configuration to examine it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import msgspec

from services.gateway.relay.rules.examination import (
    problem_of_refusal,
    problem_of_upgrade,
    problems_of_config,
)
from services.gateway.relay.rules.headers import (
    RELAY_USER,
    ForwardedClient,
    forwarded_headers,
    identity_headers,
)
from shared.protocol.events import CHALLENGE
from shared.protocol.frames import encode
from shared.protocol.limits import FRAME_LIMIT_BYTES
from shared.upstream import NO_OPENCLAW, REFUSES, RELAY_RIGHTS, RELAY_SCOPES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.gateway.relay.upstream.upstream import Upstream

EXAMINER_ADDRESS: Final = "192.0.2.3"
"""Sent as this connection's address, so that its refusals do not lock out any client."""
_NO_PASSWORD: Final = "latchkey-examines"  # noqa: S105 (not a secret: with one, reasons are told)
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class Examined(msgspec.Struct, frozen=True):
    """What was found; `version` is empty if the connection failed before it was known."""

    problems: list[str]
    version: str = ""


class Examiner:
    """Examines the upstream, one short connection at a time."""

    def __init__(self, upstream: Upstream, own_version: str, origins: Iterable[str]) -> None:
        self._upstream = upstream
        self._own_version = own_version
        self._origins = frozenset(origins)

    async def examine(self, session: aiohttp.ClientSession) -> Examined:
        """Read the configuration in one connection. Raises TimeoutError, aiohttp.ClientError."""
        address = self._upstream.address
        own = ForwardedClient(
            address=EXAMINER_ADDRESS, loopback=False, secure=False, host=address.host
        )
        headers = [
            *forwarded_headers(own),
            *identity_headers(self._upstream.names, RELAY_USER),
        ]
        try:
            socket = await session.ws_connect(
                f"{address.http_origin}{address.path}",
                headers=headers,
                max_msg_size=FRAME_LIMIT_BYTES,
                autoping=True,
            )
        except aiohttp.WSServerHandshakeError as refused:
            return Examined([problem_of_upgrade(refused.status)])
        async with socket:
            return await self._asked(socket)

    async def _asked(self, socket: aiohttp.ClientWebSocketResponse) -> Examined:
        events: list[dict[str, Any]] = []
        hello = await _call(socket, "connect", self._connect_params(), events)
        self._note_clock(events)
        if hello is None:
            return Examined([NO_OPENCLAW])
        error = hello.get("error")
        if isinstance(error, dict) and error.get("retryable") is True:
            raise TimeoutError  # it is starting
        if hello.get("ok") is not True:
            return Examined([problem_of_refusal(error)])
        version = str(_inner(hello, "payload", "server").get("version", ""))
        config = await _call(socket, "config.get", {})
        if config is None:
            return Examined([REFUSES], version)
        if config.get("ok") is not True:
            return Examined([RELAY_RIGHTS], version)
        found = problems_of_config(
            _inner(config, "payload").get("config"), self._upstream.names, self._origins
        )
        return Examined(found, version)

    def _note_clock(self, events: Iterable[dict[str, Any]]) -> None:
        for event in events:
            ts = _inner(event, "payload").get("ts")
            if event.get("event") == CHALLENGE and isinstance(ts, int):
                self._upstream.note_clock(ts)

    def _connect_params(self) -> dict[str, Any]:
        return {
            "minProtocol": 4,
            "maxProtocol": 4,
            "client": {
                "id": "cli",
                "version": self._own_version,
                "platform": "linux",
                "mode": "cli",
                "displayName": "Latchkey",
            },
            "caps": [],
            "auth": {"password": _NO_PASSWORD},
            "role": "operator",
            "scopes": list(RELAY_SCOPES),
        }


async def _call(
    socket: aiohttp.ClientWebSocketResponse,
    method: str,
    params: dict[str, Any],
    events: list[dict[str, Any]] | None = None,
) -> dict[str, Any] | None:
    """Call a method; None if the upstream closes the connection or violates the protocol.

    Frames before the answer are added to `events`.
    """
    await socket.send_str(
        encode({"type": "req", "id": method, "method": method, "params": params}).decode()
    )
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.TEXT:
            return None
        try:
            frame = _decode(message.data)
        except (msgspec.MsgspecError, RecursionError):
            return None
        if frame.get("type") == "res" and frame.get("id") == method:
            return frame
        if events is not None:
            events.append(frame)
        await asyncio.sleep(0)
    return None


def _inner(frame: dict[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        inner = frame.get(name)
        frame = inner if isinstance(inner, dict) else {}
    return frame
