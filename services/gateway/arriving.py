"""A socket until its first request is here: then it is a WebSocket, or aiohttp serves it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web
from aiohttp.http import HttpProcessingError, HttpRequestParser

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.gateway.arrivals import Arrivals
    from services.gateway.serving import Sockets

_METHOD: Final = b"GET "
_END: Final = b"\r\n\r\n"
_HEAD_LIMIT_BYTES: Final = 32 * 1024
"""How much of a head is waited for here; aiohttp refuses the rest."""
_LINE_LIMIT_BYTES: Final = 8190
"""Cap on the request line and on each header, as aiohttp has it for all other requests."""
_BODY_BUFFER_BYTES: Final = 2**16
"""The parser's buffer for a body: what asks for a WebSocket has none."""


class PlainProtocol(web.RequestHandler):
    """aiohttp's own protocol, which says when its first request is complete."""

    __slots__ = ("_on_asked",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._on_asked: Callable[[], None] | None = None

    def wait_for_request(self, on_asked: Callable[[], None]) -> None:
        """Have `on_asked` called once the first request is here, or the transport gone."""
        self._on_asked = on_asked

    def asked(self) -> None:
        """Take notice that a request is complete."""
        on_asked, self._on_asked = self._on_asked, None
        if on_asked is not None:
            on_asked()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Take notice that the transport is gone."""
        self.asked()
        super().connection_lost(exc)


class Arriving(asyncio.Protocol):
    """Collects the head of the first request."""

    __slots__ = ("_arrivals", "_head", "_peer", "_plain", "_sockets", "_transport")

    def __init__(
        self,
        peer: str,
        arrivals: Arrivals,
        sockets: Sockets,
        plain: Callable[[], PlainProtocol],
    ) -> None:
        self._peer = peer
        self._arrivals = arrivals
        self._sockets = sockets
        self._plain = plain
        self._head = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take notice that the socket is open."""
        self._transport = cast("asyncio.Transport", transport)
        self._arrivals.came(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the transport."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        head = self._head + data if self._head else data
        if head.startswith(_METHOD) and len(head) <= _HEAD_LIMIT_BYTES and _END not in head:
            self._head = head
            return
        self._head = b""
        if not self._became_socket(transport, head):
            self._hand_over(transport, head)

    def connection_lost(self, _exc: BaseException | None) -> None:
        """Take notice that the socket is gone."""
        self._arrivals.done(self)
        self._transport = None

    def force_close(self) -> None:
        """End the socket."""
        if self._transport is not None:
            self._transport.abort()

    def _became_socket(self, transport: asyncio.Transport, head: bytes) -> bool:
        """Make it a WebSocket, if that is what it asks for and can have."""
        if b"websocket" not in head.lower():
            return False
        parser = HttpRequestParser(
            cast("Any", self),
            asyncio.get_running_loop(),
            _BODY_BUFFER_BYTES,
            max_line_size=_LINE_LIMIT_BYTES,
            max_field_size=_LINE_LIMIT_BYTES,
        )
        try:
            messages, upgraded, behind = parser.feed_data(head)
        except HttpProcessingError:
            return False
        if not upgraded or len(messages) != 1:
            return False
        request = messages[0][0]
        protocol = self._sockets.take(transport, self._peer, request.method, request.headers)
        if protocol is None:
            return False
        self._arrivals.done(self)
        self._transport = None
        transport.set_protocol(protocol)
        if behind:
            protocol.data_received(behind)
        return True

    def _hand_over(self, transport: asyncio.Transport, head: bytes) -> None:
        """Leave the rest to aiohttp; its time is short until the request is complete."""
        plain = self._plain()
        plain.wait_for_request(lambda: self._arrivals.done(self))
        transport.set_protocol(plain)
        plain.connection_made(transport)
        plain.data_received(head)
