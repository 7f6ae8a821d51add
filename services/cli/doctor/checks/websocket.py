"""WebSocket checks on one connection without credentials: upgrade, challenge, clocks, ping."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import aiohttp

from services.cli.doctor import causes, openclaw_causes, product
from services.cli.doctor.checks.http import ABOUT_APPROVAL, fetch, proxy_untrusted
from services.cli.doctor.journey import Wrong
from services.cli.doctor.product import ATTRIBUTION_REQUIRED, Kind
from shared.device.errors import BrokenPeerError, UnreachableError
from shared.device.handshake import Close, Event, read_challenge, read_frame
from shared.device.opening import open_socket

if TYPE_CHECKING:
    from services.cli.doctor.cause import Cause
    from services.cli.doctor.journey import Journey

CLOCKS_APART_MS: Final = 120_000
"""Maximum age of a signature."""
EXPLAINED: Final = frozenset({403, 503})
"""Statuses whose body explains them, but only in response to an upgrade request."""
PING: Final = b"latchkey"
_UPGRADE: Final = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "bGF0Y2hrZXkgZG9jdG9yIQ==",
}
_BY_STATUS: Final = {
    **dict.fromkeys((401, 407), causes.LOGIN_REQUIRED),
    **dict.fromkeys((403, 429), causes.FORBIDDEN),
    **dict.fromkeys((500, 502, 503, 504), causes.PROXY_ALONE),
}


async def check_websocket(journey: Journey) -> None:
    """Open a WebSocket, receive the challenge, compare clocks, send a ping."""
    try:
        socket = await open_socket(
            journey.session,
            journey.url,
            headers=None,
            origin=None,
            answer_pings=False,
            timeouts=journey.options.timeouts,
        )
    except UnreachableError as error:
        raise await why_no_socket(journey, error) from None
    async with _closing(socket):
        journey.ok("the upgrade succeeded")
        journey.step = "challenge"
        await _receive_challenge(journey, socket)
        journey.step = "ping"
        await _ping(journey, socket)


def _limit_reached(body: bytes, *, is_openclaw: bool) -> Cause | None:
    """Return the cause of a 503 that a limit on sockets explains."""
    if b"Too many unauthenticated sockets" in body:
        return openclaw_causes.TOO_MANY_SOCKETS if is_openclaw else causes.TOO_MANY_SOCKETS
    if b"Too many connections from this address" in body:
        return causes.ADDRESS_FULL
    return causes.FULL if b"Too many connections" in body else None


async def why_no_socket(journey: Journey, error: UnreachableError) -> Wrong:
    """Return why the WebSocket could not be opened."""
    status, is_known = error.status, journey.product.kind is not Kind.UNKNOWN
    if status is None:
        cause = causes.UPGRADE_DROPPED if is_known else causes.CUT
        return Wrong(cause, f"no WebSocket: {error.why}")
    found = f"HTTP {status} instead of a WebSocket"
    path = urlsplit(journey.url).path or "/"
    _, _, body = await fetch(journey, path, _UPGRADE if status in EXPLAINED else None)
    if ATTRIBUTION_REQUIRED in body:
        return proxy_untrusted(journey, path, status)
    full = _limit_reached(body, is_openclaw=journey.product.kind is Kind.OPENCLAW)
    if full is not None:
        return Wrong(full, found)
    if ABOUT_APPROVAL in body:
        return Wrong(causes.APPROVAL_ADDRESS, found)
    otherwise = causes.UPGRADE_DROPPED if is_known else causes.ANOTHER_SERVER
    return Wrong(_BY_STATUS.get(status, otherwise), found)


def why_closed(close: Close) -> Wrong:
    """Return why a gateway closed the connection without an error message."""
    found = f"closed with {close.code} {close.reason}".rstrip()
    if close.code in {1012, 1013}:
        return Wrong(causes.NOT_READY, found, failing=close.reason or "no reason given")
    if close.code in {1005, 1006}:
        return Wrong(causes.CUT, found)
    return Wrong(causes.NOT_A_GATEWAY, found)


async def _receive_challenge(journey: Journey, socket: aiohttp.ClientWebSocketResponse) -> None:
    before_ms = journey.now() * 1000
    seconds = journey.options.timeouts.challenge
    try:
        async with asyncio.timeout(seconds):
            message = await _next(socket)
    except TimeoutError:
        raise Wrong(causes.NO_CHALLENGE, f"no frame within {seconds:g} s") from None
    if message.type not in {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY}:
        raise why_closed(Close(socket.close_code or 1006))
    try:
        frame = read_frame(message.data)
        challenge = read_challenge(frame)
    except BrokenPeerError as error:
        raise Wrong(causes.NOT_A_GATEWAY, str(error)) from None
    if journey.product.kind is Kind.UNKNOWN and isinstance(frame, Event):
        journey.product = product.of_challenge(frame.payload)
    apart_ms = round(challenge.ts - (before_ms + journey.now() * 1000) / 2)
    found = f"received; the gateway's clock is {abs(apart_ms) / 1000:.1f} s "
    found += "ahead" if apart_ms > 0 else "behind"
    if abs(apart_ms) > CLOCKS_APART_MS:
        journey.warn(causes.CLOCK_DIFFERS, found)
    else:
        journey.ok(found)


async def _ping(journey: Journey, socket: aiohttp.ClientWebSocketResponse) -> None:
    loop = asyncio.get_running_loop()
    sent, seconds = loop.time(), journey.options.timeouts.close
    try:
        await socket.ping(PING)
        async with asyncio.timeout(seconds):
            while True:
                message = await _next(socket)
                if message.type is aiohttp.WSMsgType.PONG:
                    break
                if message.type in _ENDS:
                    raise why_closed(Close(socket.close_code or 1006))
    except TimeoutError:
        raise Wrong(causes.PINGS_SWALLOWED, f"no pong within {seconds:g} s") from None
    except aiohttp.ClientError as error:
        raise Wrong(causes.CUT, f"the ping could not be sent: {error}") from None
    journey.ok(f"answered within {(loop.time() - sent) * 1000:.0f} ms")


_ENDS: Final = frozenset(
    {
        aiohttp.WSMsgType.CLOSE,
        aiohttp.WSMsgType.CLOSING,
        aiohttp.WSMsgType.CLOSED,
        aiohttp.WSMsgType.ERROR,
    }
)


async def _next(socket: aiohttp.ClientWebSocketResponse) -> aiohttp.WSMessage:
    return await socket.receive()


class _closing:  # noqa: N801 (reads like contextlib.closing)
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def __aenter__(self) -> None:
        return

    async def __aexit__(self, *_: object) -> None:
        await self._socket.close()
