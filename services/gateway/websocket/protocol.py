"""The transport's end of a WebSocket, with a cap for strangers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from services.gateway.websocket.frame_parser import FrameParser
from shared.protocol.limits import FRAME_LIMIT_BYTES, PREAUTH_FRAME_LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.gateway.session.handler import SessionHandler

PREAUTH_BUFFER_LIMIT_BYTES: Final = 2 * PREAUTH_FRAME_LIMIT_BYTES
"""What a socket may send before it is admitted: one full frame, and as much queued behind it."""
PARSED_PER_TURN_BYTES: Final = 16 * 1024
"""How much of one socket is looked at in one turn of the loop: small frames keep nobody waiting."""


class SocketProtocol(asyncio.Protocol):
    """Hands messages to a visit, and counts bytes until it is admitted.

    The parser's limit holds for the whole life of a WebSocket, and what may be sent grows at
    admission: counting below the parser keeps a stranger from making it buffer.
    """

    __slots__ = ("_feed", "_transport", "_visit", "received")

    def __init__(self, transport: asyncio.Transport, visit: SessionHandler) -> None:
        self._transport = transport
        self._visit: SessionHandler | None = visit
        self._feed: Callable[[bytes], None] | None = FrameParser(
            visit.on_message, visit.on_protocol_error, message_limit_bytes=FRAME_LIMIT_BYTES
        ).feed
        self.received = 0
        """How many bytes have come."""

    def data_received(self, data: bytes) -> None:
        """Take bytes from the transport."""
        visit, feed = self._visit, self._feed
        if visit is None or feed is None:
            return
        self.received += len(data)
        if self.received > PREAUTH_BUFFER_LIMIT_BYTES and visit.is_unauthenticated:
            visit.on_preauth_overflow()
            return
        if len(data) <= PARSED_PER_TURN_BYTES:
            feed(data)
        else:
            self._transport.pause_reading()
            self._parse(data, 0)

    def connection_lost(self, _exc: BaseException | None) -> None:
        """Take notice that the transport is gone."""
        visit, self._visit, self._feed = self._visit, None, None
        if visit is not None:
            visit.on_lost()

    def _parse(self, data: bytes, start: int) -> None:
        """Parse what may be parsed in this turn, and the rest in the next ones."""
        if self._feed is None or self._transport.is_closing():
            return
        end = start + PARSED_PER_TURN_BYTES
        self._feed(data[start:end])
        if end < len(data):
            asyncio.get_running_loop().call_soon(self._parse, data, end)
        elif not self._transport.is_closing():
            self._transport.resume_reading()


class SocketParser:
    """What aiohttp's protocol feeds, where it keeps the transport: the same for its own calls."""

    def __init__(self, protocol: SocketProtocol, on_end: Callable[[], object]) -> None:
        self._protocol = protocol
        self._on_end = on_end

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take bytes from the transport; it never has enough of them."""
        self._protocol.data_received(data)
        return False, b""

    def feed_eof(self) -> None:
        """Take notice that the transport is gone."""
        self._protocol.connection_lost(None)
        self._on_end()
