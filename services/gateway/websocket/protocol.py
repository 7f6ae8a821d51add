"""The transport's end of a WebSocket, with a cap for strangers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from services.gateway.websocket.frame_parser import FrameParser
from shared.protocol.limits import FRAME_LIMIT_BYTES, PREAUTH_FRAME_LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable


PREAUTH_BUFFER_LIMIT_BYTES: Final = 2 * PREAUTH_FRAME_LIMIT_BYTES
"""What a socket may send before it is admitted: one full frame, and as much queued behind it."""
PARSED_PER_TURN_BYTES: Final = 16 * 1024
"""How much of one socket is looked at in one turn of the loop: small frames keep nobody waiting."""


class Handler(Protocol):
    """Whoever serves a WebSocket."""

    @property
    def is_unauthenticated(self) -> bool:
        """Whether it is not admitted."""
        ...

    def on_message(self, opcode: int, payload: bytes) -> None:
        """Take a message from the peer."""
        ...

    def on_protocol_error(self, error: Exception) -> None:
        """Close a peer that breaks the protocol."""
        ...

    def on_preauth_overflow(self) -> None:
        """Close a peer that sent too much before it was admitted."""
        ...

    def on_lost(self) -> None:
        """Note that the transport is gone."""
        ...


class SocketProtocol(asyncio.Protocol):
    """Hands messages to a handler, and counts bytes until it is admitted.

    The parser's limit holds for the whole life of a WebSocket, and what may be sent grows at
    admission: counting below the parser keeps a stranger from making it buffer.
    """

    __slots__ = ("_feed", "_handler", "_transport", "received")

    def __init__(self, transport: asyncio.Transport, handler: Handler) -> None:
        self._transport = transport
        self._handler: Handler | None = handler
        self._feed: Callable[[bytes], None] | None = FrameParser(
            handler.on_message, handler.on_protocol_error, message_limit_bytes=FRAME_LIMIT_BYTES
        ).feed
        self.received = 0
        """How many bytes have come."""

    def data_received(self, data: bytes) -> None:
        """Take bytes from the transport."""
        handler, feed = self._handler, self._feed
        if handler is None or feed is None:
            return
        self.received += len(data)
        if self.received > PREAUTH_BUFFER_LIMIT_BYTES and handler.is_unauthenticated:
            handler.on_preauth_overflow()
            return
        if len(data) <= PARSED_PER_TURN_BYTES:
            feed(data)
        else:
            self._transport.pause_reading()
            self._parse(data, 0)

    def connection_lost(self, _exc: BaseException | None) -> None:
        """Take notice that the transport is gone."""
        handler, self._handler, self._feed = self._handler, None, None
        if handler is not None:
            handler.on_lost()

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
