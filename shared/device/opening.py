"""Opens a WebSocket, or reports in a few words why that failed (aiohttp)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp

from shared.device.errors import UnreachableError
from shared.protocol.limits import FRAME_LIMIT_BYTES

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Maximum duration of each wait, in seconds."""

    open: float = 5.0
    """TCP, TLS and the upgrade."""
    challenge: float = 5.0
    outcome: float = 20.0
    """From `connect` to its response; longer than the gateway's own deadline of 15 s."""
    call: float = 10.0
    close: float = 5.0
    """From a refusal to the close frame, and for closing from this side."""
    send: float = 5.0


def new_session(tls: ssl.SSLContext | None = None) -> aiohttp.ClientSession:
    """Create a session for any number of clients: no cookies, no environment.

    `tls` selects the trusted CAs; the default is those of this machine.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=tls or True),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        timeout=aiohttp.ClientTimeout(total=None),
        headers={"User-Agent": "latchkey-device"},
    )


async def open_socket(
    session: aiohttp.ClientSession,
    url: str,
    *,
    headers: Mapping[str, str] | None,
    origin: str | None,
    answer_pings: bool,
    timeouts: Timeouts,
) -> aiohttp.ClientWebSocketResponse:
    """Open a WebSocket; raises UnreachableError."""
    try:
        async with asyncio.timeout(timeouts.open):
            return await session.ws_connect(
                url,
                headers=headers,
                origin=origin,
                autoping=answer_pings,
                max_msg_size=FRAME_LIMIT_BYTES,
                timeout=aiohttp.ClientWSTimeout(ws_close=timeouts.close),
            )
    except aiohttp.WSServerHandshakeError as error:
        why = f"HTTP {error.status} instead of a WebSocket"
        raise UnreachableError(url, why, error.status) from error
    except TimeoutError as error:
        raise UnreachableError(url, f"no answer within {timeouts.open:g} s") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise UnreachableError(url, _why(error)) from error


def _why(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"unknown host {error.host}"
    if isinstance(error, aiohttp.ClientSSLError):
        return f"TLS: {error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, ConnectionRefusedError):
            return "the connection was refused"
        return error.os_error.strerror or str(error.os_error)
    return str(error) or type(error).__name__
