"""A socket until its first request is here: then it is a WebSocket, or aiohttp serves it."""

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
"""How much of a head is waited for here; aiohttp refuses the rest."""
_LINE_LIMIT_BYTES: Final = 8190
"""Cap on the request line and on each header, as aiohttp has it for all other requests."""
_BODY_BUFFER_BYTES: Final = 2**16
"""The parser's buffer for a body: what asks for a WebSocket has none."""


class UpgradeProtocol(asyncio.Protocol):
    """Collects the head of the first request. It counts among the arrivals from the start.

    `key` is what the limit of its address counts by; `plain` makes what serves it, by that key.
    """

    __slots__ = (
        "_arrivals",
        "_head",
        "_key",
        "_peer",
        "_plain",
        "_sockets",
        "_transport",
    )

    def __init__(
        self,
        peer: str,
        key: str,
        arrivals: PendingSockets,
        sockets: Upgrader,
        plain: Callable[[str], TrackedRequestHandler],
    ) -> None:
        self._peer = peer
        self._key = key
        self._arrivals = arrivals
        self._sockets = sockets
        self._plain = plain
        self._head = b""
        self._transport: asyncio.Transport | None = None
        arrivals.add(self, key)

    @property
    def is_open(self) -> bool:
        """Whether its transport is there."""
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take notice that the socket is open."""
        self._transport = cast("asyncio.Transport", transport)
        if self not in self._arrivals:
            self.abort()

    def data_received(self, data: bytes) -> None:
        """Take bytes from the transport."""
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
        """Take notice that the socket is gone."""
        self._arrivals.remove(self)
        self._transport = None

    def abort(self) -> None:
        """End the socket."""
        if self._transport is not None:
            self._transport.abort()

    def reject(self, answer: bytes) -> None:
        """End the socket with an answer."""
        if self._transport is not None:
            self._transport.write(answer)
            self._transport.close()

    def _try_upgrade(self, transport: asyncio.Transport, head: bytes) -> bool:
        """Make it a WebSocket, if that is what it asks for and can have."""
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
            # Never a body: whoever sends one with an upgrade is served, and refused, by aiohttp.
            messages, upgraded, _ = parser.feed_data(head[:end])
            if not upgraded or len(messages) != 1:
                return False
            request = checked(messages[0][0])
        except HttpProcessingError:
            return False
        protocol = self._sockets.upgrade(transport, self._peer, request)
        if protocol is None:
            return False
        self._arrivals.remove(self)
        self._transport = None
        transport.set_protocol(protocol)
        if end < len(head):
            protocol.data_received(head[end:])
        return True

    def _serve_plain(self, transport: asyncio.Transport, head: bytes) -> None:
        """Leave the rest to aiohttp; its time is short until the request is complete."""
        plain = self._plain(self._key)
        plain.take_place(self._arrivals, self)
        transport.set_protocol(plain)
        plain.connection_made(transport)
        plain.data_received(head)


def _may_become_head(begun: bytes) -> bool:
    """Say whether this may yet become the head of a request, or is refused as it stands."""
    if not begun.startswith(_METHOD):
        return False
    if b"\n" not in begun:
        return len(begun) <= _LINE_LIMIT_BYTES
    lines_end_well = begun.count(b"\n") == begun.count(b"\r\n")
    return lines_end_well and len(begun) <= _HEAD_LIMIT_BYTES and not is_other_version(begun)
