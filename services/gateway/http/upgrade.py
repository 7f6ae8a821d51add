"""The protocol of a new socket: upgrades it to a WebSocket or hands it to aiohttp."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp.http import HttpProcessingError, HttpRequestParser

from shared.server.strict_http import checked, is_other_version

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.gateway.http.upgrader import Upgrader
    from shared.server.http_protocol import TrackedRequestHandler
    from shared.server.pending_sockets import PendingSockets

_METHOD: Final = b"GET "
_END: Final = b"\r\n\r\n"
_HEAD_LIMIT_BYTES: Final = 32 * 1024
"""Cap on the head that is buffered here; aiohttp rejects longer ones."""
_LINE_LIMIT_BYTES: Final = 8190
"""Cap on the request line and on each header; equals aiohttp's default."""
_BODY_BUFFER_BYTES: Final = 2**16
"""The parser's body buffer; unused, because an upgrade request has no body."""


class UpgradeProtocol(asyncio.Protocol):
    """Buffers the head of the first request; counts as a pending socket from the start.

    `key` is the address key for limits. `make_handler` makes the aiohttp handler for
    a plain request.
    """

    __slots__ = (
        "_head",
        "_key",
        "_make_handler",
        "_peer",
        "_pending",
        "_sockets",
        "_transport",
    )

    def __init__(
        self,
        peer: str,
        key: str,
        pending: PendingSockets,
        sockets: Upgrader,
        make_handler: Callable[[str], TrackedRequestHandler],
    ) -> None:
        self._peer = peer
        self._key = key
        self._pending = pending
        self._sockets = sockets
        self._make_handler = make_handler
        self._head = b""
        self._transport: asyncio.Transport | None = None
        pending.add(self, key)

    @property
    def is_open(self) -> bool:
        """Whether the transport is connected."""
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Abort at once if the socket was already evicted from the pending sockets."""
        self._transport = cast("asyncio.Transport", transport)
        if self not in self._pending:
            self.abort()

    def data_received(self, data: bytes) -> None:
        """Buffer bytes until the head is complete, then dispatch the request."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        head = self._head + data if self._head else data
        if _END not in head and _may_become_head(head):
            self._head = head
            return
        self._head = b""
        if not self._try_upgrade(transport, head):
            self._serve_plain(transport, head)

    def connection_lost(self, _exc: BaseException | None) -> None:
        """Remove the socket from the pending sockets."""
        self._pending.remove(self)
        self._transport = None

    def abort(self) -> None:
        """Close the socket without a response."""
        if self._transport is not None:
            self._transport.abort()

    def reject(self, answer: bytes) -> None:
        """Send a response and close the socket."""
        if self._transport is not None:
            self._transport.write(answer)
            self._transport.close()

    def _try_upgrade(self, transport: asyncio.Transport, head: bytes) -> bool:
        """Upgrade to a WebSocket; return False if the request must be served as plain HTTP."""
        if _END not in head or b"websocket" not in head.lower():
            return False
        end = head.find(_END) + len(_END)
        parser = HttpRequestParser(
            cast("Any", self),
            asyncio.get_running_loop(),
            _BODY_BUFFER_BYTES,
            max_line_size=_LINE_LIMIT_BYTES,
            max_field_size=_LINE_LIMIT_BYTES,
        )
        try:
            # Only the head is parsed: aiohttp rejects an upgrade request that has a body.
            messages, upgraded, _ = parser.feed_data(head[:end])
            if not upgraded or len(messages) != 1:
                return False
            request = checked(messages[0][0])
        except HttpProcessingError:
            return False
        protocol = self._sockets.upgrade(transport, self._peer, request)
        if protocol is None:
            return False
        self._pending.remove(self)
        self._transport = None
        transport.set_protocol(protocol)
        if end < len(head):
            protocol.data_received(head[end:])
        return True

    def _serve_plain(self, transport: asyncio.Transport, head: bytes) -> None:
        """Hand the socket to aiohttp; it stays pending until its request is complete."""
        handler = self._make_handler(self._key)
        handler.take_place(self._pending, self)
        transport.set_protocol(handler)
        handler.connection_made(transport)
        handler.data_received(head)


def _may_become_head(head: bytes) -> bool:
    """Return whether more bytes could complete a valid head; if not, aiohttp rejects it now."""
    if not head.startswith(_METHOD):
        return False
    if b"\n" not in head:
        return len(head) <= _LINE_LIMIT_BYTES
    lines_end_well = head.count(b"\n") == head.count(b"\r\n")
    return lines_end_well and len(head) <= _HEAD_LIMIT_BYTES and not is_other_version(head)
