"""The asyncio protocol of a WebSocket, with limits on the bytes that it holds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from services.gateway.websocket.frame_parser import FrameParser
from services.gateway.websocket.memory import Part
from services.gateway.websocket.passing_parser import PassingParser
from shared.protocol.limits import PREAUTH_FRAME_LIMIT_BYTES
from shared.server.loop_budget import Lane

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.gateway.websocket.memory import MemoryBudget
    from services.gateway.websocket.passing_parser import Passer
    from shared.server.loop_budget import LoopBudget

PREAUTH_BUFFER_LIMIT_BYTES: Final = 2 * PREAUTH_FRAME_LIMIT_BYTES
"""What a client may send before it is admitted: one full frame and as much queued behind it."""
PREAUTH_UNCOUNTED_BYTES: Final = PREAUTH_FRAME_LIMIT_BYTES // 4
"""How much of that does not count as held; a `connect` has about 1 kB, and is soon evaluated."""
PARSED_PER_TURN_BYTES: Final = 16 * 1024
"""How much of one socket is parsed per turn of the event loop, so that others are not delayed."""
SLICES_PER_TURN: Final = 4
"""Into how many slices that is divided if it has to wait: small frames take much longer."""
PASSED_PER_TURN_BYTES: Final = 64 * 1024
"""The same for frames that are only passed on, which takes a quarter of the time."""


class Handler(Protocol):
    """The handler of a WebSocket's messages and events."""

    @property
    def is_unauthenticated(self) -> bool:
        """Whether the client is not admitted."""
        ...

    @property
    def limit_key(self) -> str:
        """The key that the client's address counts by: addresses take turns."""
        ...

    @property
    def message_limit_bytes(self) -> int:
        """The maximum size of a message that this client may send now."""
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

    def on_overdue(self) -> None:
        """Note that an unauthenticated client's bytes were not processed in time."""
        ...

    def on_progress(self) -> None:
        """Note that a part of a message arrived or was read: until its end there is no pong."""
        ...

    def on_shed(self, reason: str) -> None:
        """Close a connection that holds too much memory, or holds it for too long."""
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

    Counting bytes before they reach the parser keeps an unauthenticated client from filling its
    buffer. What the parser holds at the end of a read, and what the client does not read, count
    towards the memory of all sockets. Large chunks, and those for which the loop has no time left,
    are processed in slices, in turn with other sockets.
    """

    __slots__ = (
        "_admitted",
        "_budget",
        "_data",
        "_ended",
        "_handler",
        "_held",
        "_holds_input",
        "_lane",
        "_memory",
        "_parser",
        "_parser_type",
        "_parsing",
        "_start",
        "_transport",
        "_turn_bytes",
        "received",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        handler: Handler,
        memory: MemoryBudget,
        budget: LoopBudget,
        parser: type[FrameParser] = FrameParser,
    ) -> None:
        self._transport = transport
        self._memory = memory
        self._budget = budget
        self._lane = Lane.HANDSHAKES
        self._data = b""
        """What was received and waits for loop time, from `_start` on."""
        self._start = 0
        self._handler: Handler | None = handler
        self._parser_type = parser
        self._parser: FrameParser | None = None
        """Made when the first bytes arrive."""
        self._turn_bytes = PARSED_PER_TURN_BYTES
        self._admitted = False
        self._ended = False
        """Whether what still arrives is ignored."""
        self._held = False
        self._holds_input = False
        """Whether incomplete input of this socket is counted."""
        self._parsing = False
        """Whether more than a slice waits for its turn: nothing is read before it is parsed."""
        self.received = 0
        """The number of bytes received."""

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, large chunks over several turns of the event loop."""
        handler, parser = self._handler, self._parser
        if handler is None or self._ended:
            return
        self.received += len(data)
        if not self._admitted:
            if not handler.is_unauthenticated:
                self._admitted = True
                self._lane = Lane.SESSIONS
            elif self.received > PREAUTH_BUFFER_LIMIT_BYTES:
                handler.on_preauth_overflow()
                return
        if parser is None:
            parser = self._parser = self._parser_type(
                handler.on_message,
                handler.on_protocol_error,
                message_limit_bytes=PREAUTH_FRAME_LIMIT_BYTES,
                larger_limit=self._message_limit_bytes,
            )
        if (
            self._data
            or (len(data) > self._turn_bytes and len(data) > parser.missing_bytes)
            or not (began := self._budget.begin(self._lane))
        ):
            self._wait(parser, data)
            return
        parser.feed(data)
        self._budget.end(self._lane, began)
        if (
            parser.incomplete is not None
            or self._holds_input
            or (self.received > PREAUTH_UNCOUNTED_BYTES and not self._admitted)
        ):
            self._hold_input(parser, 0)

    def run_slice(self, *, overdue: bool) -> bool:
        """Parse one slice of what waits; return whether there is more."""
        handler, parser, data, start = self._handler, self._parser, self._data, self._start
        if handler is None or parser is None or self._transport.is_closing():
            self._data = b""
            return False
        if overdue:
            handler.on_overdue()
        end = start + max(self._turn_bytes // SLICES_PER_TURN, parser.missing_bytes)
        has_more = end < len(data)
        if has_more:
            self._start = end
            parser.feed(data[start:end])
        else:
            self._data, self._start = b"", 0
            parser.feed(data[start:] if start else data)
        self._hold_input(parser, max(0, len(data) - end))
        if self._parsing and not has_more:
            self._parsing = False
            if not self._held and not self._transport.is_closing():
                self._transport.resume_reading()
        return has_more

    def pause_writing(self) -> None:
        """Count what the peer does not read."""
        if self._handler is not None:
            self._handler.pause_writing()
            self._memory.hold(self, Part.OUTPUT, self.unread_bytes())

    def resume_writing(self) -> None:
        """Note that the peer reads again."""
        self._memory.hold(self, Part.OUTPUT, 0)
        if self._handler is not None:
            self._handler.resume_writing()

    def unread_bytes(self) -> int:
        """Return how many bytes wait for the client to read them."""
        return self._transport.get_write_buffer_size()

    def on_progress(self) -> None:
        """Note that the client reads, even if slowly: a ping waits behind the rest."""
        if self._handler is not None:
            self._handler.on_progress()

    @property
    def is_held(self) -> bool:
        """Whether nothing is read from the peer."""
        return self._held

    def hold_upstream(self, held_bytes: int) -> None:
        """Count what the upstream's side of this session holds."""
        if self._handler is not None:
            self._memory.hold(self, Part.UPSTREAM, held_bytes)

    def shed(self, reason: str) -> None:
        """Release everything that is held, and close the socket."""
        self._parser, self._ended, self._data = None, True, b""
        if self._handler is not None:
            self._handler.on_shed(reason)

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
        self._memory.release(self)
        if self._data:
            self._data = b""
            self._budget.remove(self)
        if handler is not None:
            handler.on_lost()

    def _wait(self, parser: FrameParser, data: bytes) -> None:
        """Have received bytes parsed in later turns of the loop."""
        is_first = self.received == len(data)
        self._data = data = self._data[self._start :] + data if self._data else data
        self._start = 0
        if len(data) > self._turn_bytes:
            self._parsing = True
            self._transport.pause_reading()
            self._hold_input(parser, len(data))
        key = ""
        if self._lane is Lane.HANDSHAKES and self._handler is not None:
            key = self._handler.limit_key
        self._budget.wait(self._lane, self, key, is_first=is_first)

    def _message_limit_bytes(self) -> int:
        return 0 if self._handler is None else self._handler.message_limit_bytes

    def _hold_input(self, parser: FrameParser, waiting_bytes: int) -> None:
        """Count the input that is incomplete or waits, also that of a client not yet admitted."""
        handler = self._handler
        if handler is None or self._ended:
            return
        handler.on_progress()
        held = waiting_bytes + parser.held_bytes
        if not self._admitted and handler.is_unauthenticated:
            held = max(held, self.received)
        self._holds_input = held > 0
        self._memory.hold(self, Part.INPUT, held, parser.incomplete)


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
