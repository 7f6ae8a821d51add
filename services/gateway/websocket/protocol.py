"""The asyncio protocol of a WebSocket, with a byte limit for unauthenticated clients."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from services.gateway.websocket.frame_parser import FrameParser
from shared.protocol.limits import FRAME_LIMIT_BYTES, PREAUTH_FRAME_LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable


PREAUTH_BUFFER_LIMIT_BYTES: Final = 2 * PREAUTH_FRAME_LIMIT_BYTES
"""What a client may send before it is admitted: one full frame and as much queued behind it."""
PARSED_PER_TURN_BYTES: Final = 16 * 1024
"""How much of one socket is parsed per turn of the event loop, so that others are not delayed."""


class Handler(Protocol):
    """The handler of a WebSocket's messages and events."""

    @property
    def is_unauthenticated(self) -> bool:
        """Whether the client is not admitted."""
        ...

    def on_message(self, opcode: int, payload: bytes) -> None:
        """Handle a message from the peer."""
        ...

    def on_protocol_error(self, error: Exception) -> None:
        """Close a connection whose peer violated the protocol."""
        ...

    def on_preauth_overflow(self) -> None:
        """Close a connection that sent too many bytes before it was admitted."""
        ...

    def pause_writing(self) -> None:
        """Note that the peer does not read what it is sent."""
        ...

    def resume_writing(self) -> None:
        """Note that the peer reads again."""
        ...

    def on_lost(self) -> None:
        """Clean up after the transport has closed."""
        ...


class SocketProtocol(asyncio.Protocol):
    """Parses messages for a handler, and limits bytes until the client is admitted.

    The parser's message limit is that of an admitted client. Counting bytes before they reach the
    parser keeps an unauthenticated client from filling its buffer.
    """

    __slots__ = ("_feed", "_handler", "_held", "_parsing", "_transport", "received")

    def __init__(self, transport: asyncio.Transport, handler: Handler) -> None:
        self._transport = transport
        self._handler: Handler | None = handler
        self._feed: Callable[[bytes], None] | None = None
        """The parser's; made when the first bytes arrive."""
        self._held = False
        self._parsing = False
        """Whether slices of a chunk wait for their turn: nothing may be read before them."""
        self.received = 0
        """The number of bytes received."""

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, large chunks over several turns of the event loop."""
        handler, feed = self._handler, self._feed
        if handler is None:
            return
        self.received += len(data)
        if self.received > PREAUTH_BUFFER_LIMIT_BYTES and handler.is_unauthenticated:
            handler.on_preauth_overflow()
            return
        if feed is None:
            feed = self._feed = FrameParser(
                handler.on_message, handler.on_protocol_error, message_limit_bytes=FRAME_LIMIT_BYTES
            ).feed
        if len(data) <= PARSED_PER_TURN_BYTES:
            feed(data)
        else:
            self._parsing = True
            self._transport.pause_reading()
            self._parse(data, 0)

    def pause_writing(self) -> None:
        """Note that the peer does not read what it is sent."""
        if self._handler is not None:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        """Note that the peer reads again."""
        if self._handler is not None:
            self._handler.resume_writing()

    def hold_reading(self) -> None:
        """Read nothing from the peer until `release_reading`."""
        self._held = True
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def release_reading(self) -> None:
        """Read from the peer again."""
        self._held = False
        if not self._parsing and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, _exc: BaseException | None) -> None:
        """Notify the handler, once."""
        handler, self._handler, self._feed = self._handler, None, None
        if handler is not None:
            handler.on_lost()

    def _parse(self, data: bytes, start: int) -> None:
        """Parse one slice of the data and schedule the rest."""
        if self._feed is None or self._transport.is_closing():
            return
        end = start + PARSED_PER_TURN_BYTES
        self._feed(data[start:end])
        if end < len(data):
            asyncio.get_running_loop().call_soon(self._parse, data, end)
            return
        self._parsing = False
        if not self._held and not self._transport.is_closing():
            self._transport.resume_reading()


class SocketParser:
    """Adapts SocketProtocol to the parser interface of aiohttp, which keeps the transport."""

    def __init__(self, protocol: asyncio.Protocol, on_end: Callable[[], object]) -> None:
        self._protocol = protocol
        self._on_end = on_end

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Pass on received bytes; never report the end of a message."""
        self._protocol.data_received(data)
        return False, b""

    def feed_eof(self) -> None:
        """Pass on the end of the connection."""
        self._protocol.connection_lost(None)
        self._on_end()
