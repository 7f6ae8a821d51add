"""The asyncio protocol of a WebSocket, with a byte limit for unauthenticated clients."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from services.gateway.websocket.frame_parser import FrameParser
from services.gateway.websocket.passing_parser import PassingParser
from shared.protocol.limits import FRAME_LIMIT_BYTES, PREAUTH_FRAME_LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.gateway.websocket.passing_parser import Passer

PREAUTH_BUFFER_LIMIT_BYTES: Final = 2 * PREAUTH_FRAME_LIMIT_BYTES
"""What a client may send before it is admitted: one full frame and as much queued behind it."""
PARSED_PER_TURN_BYTES: Final = 16 * 1024
"""How much of one socket is parsed per turn of the event loop, so that others are not delayed."""
PASSED_PER_TURN_BYTES: Final = 64 * 1024
"""The same for frames that are only passed on, which takes a quarter of the time."""


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

    __slots__ = (
        "_admitted",
        "_handler",
        "_held",
        "_parser",
        "_parser_type",
        "_parsing",
        "_transport",
        "_turn_bytes",
        "received",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        handler: Handler,
        parser: type[FrameParser] = FrameParser,
    ) -> None:
        self._transport = transport
        self._handler: Handler | None = handler
        self._parser_type = parser
        self._parser: FrameParser | None = None
        """Made when the first bytes arrive."""
        self._turn_bytes = PARSED_PER_TURN_BYTES
        self._admitted = False
        self._held = False
        self._parsing = False
        """Whether slices of a chunk wait for their turn: nothing may be read before them."""
        self.received = 0
        """The number of bytes received."""

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, large chunks over several turns of the event loop."""
        handler, parser = self._handler, self._parser
        if handler is None:
            return
        self.received += len(data)
        if self.received > PREAUTH_BUFFER_LIMIT_BYTES and not self._admitted:
            if handler.is_unauthenticated:
                handler.on_preauth_overflow()
                return
            self._admitted = True
        if parser is None:
            parser = self._parser = self._parser_type(
                handler.on_message, handler.on_protocol_error, message_limit_bytes=FRAME_LIMIT_BYTES
            )
        if len(data) <= self._turn_bytes or len(data) <= parser.missing_bytes:
            parser.feed(data)
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

    def pass_to(self, passer: Passer) -> None:
        """Pass text frames on from now on, as a PassingParser does."""
        if isinstance(self._parser, PassingParser):
            self._parser.pass_to(passer)
            self._turn_bytes = PASSED_PER_TURN_BYTES

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
        handler, self._handler, self._parser = self._handler, None, None
        if handler is not None:
            handler.on_lost()

    def _parse(self, data: bytes, start: int) -> None:
        """Parse one slice of the data and schedule the rest."""
        parser = self._parser
        if parser is None or self._transport.is_closing():
            return
        end = start + max(self._turn_bytes, parser.missing_bytes)
        parser.feed(data[start:end])
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
