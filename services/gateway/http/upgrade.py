"""From the first bytes of a socket to a WebSocket session, or to aiohttp for plain HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from aiohttp import web
from aiohttp.http import HttpProcessingError, HttpRequestParser

from services.gateway.handshake.handshake import Handshake, new_nonce
from services.gateway.handshake.origin import origin_problem
from services.gateway.handshake.outcome import RequestInfo
from services.gateway.http.pipe_door import NO_ROOM, Upgrade
from services.gateway.http.upgrade_request import (
    WITH_BODY,
    UpgradeRequest,
    switching_protocols,
    upgrade_problem,
)
from services.gateway.relay.handler import RelayHandler
from services.gateway.relay.rules.headers import ForwardedClient
from services.gateway.session.handler import SessionHandler
from services.gateway.websocket.protocol import SocketParser, SocketProtocol
from shared.addresses.client import over_https
from shared.server.clients import Clients
from shared.server.http_protocol import TrackedRequestHandler
from shared.server.strict_http import checked, is_other_version

if TYPE_CHECKING:
    from collections.abc import Callable

    from multidict import CIMultiDict, CIMultiDictProxy

    from services.gateway.http.pipe_door import PipeDoor
    from services.gateway.metrics import Metrics
    from services.gateway.relay.relay import Relay
    from services.gateway.session.context import SessionContext
    from shared.addresses.client import ClientAddress
    from shared.server.socket_limiter import SocketLimiter
    from shared.settings.environment import Network

    Headers = CIMultiDict[str] | CIMultiDictProxy[str]

_METHOD: Final = b"GET "
_END: Final = b"\r\n\r\n"
_HEAD_LIMIT_BYTES: Final = 32 * 1024
"""Cap on the head that is buffered here; aiohttp rejects longer ones."""
_LINE_LIMIT_BYTES: Final = 8190
"""Cap on the request line and on each header; equals aiohttp's default."""
_BODY_BUFFER_BYTES: Final = 2**16
"""The parser's body buffer; unused, because an upgrade request has no body."""


class FirstRequest(UpgradeRequest, Protocol):
    """The head of a connection's first request, as it was parsed."""

    @property
    def path(self) -> str:
        """The target: path and query, as they came."""
        ...


class UpgradeProtocol(asyncio.Protocol):
    """Buffers the head of the first request; `limiter` counts it as a pending socket.

    `make_handler` makes the aiohttp handler for a plain request; it gets the address key for
    limits.
    """

    __slots__ = (
        "_aborted",
        "_head",
        "_key",
        "_limiter",
        "_make_handler",
        "_peer",
        "_transport",
        "_upgrader",
    )

    def __init__(
        self,
        peer: str,
        key: str,
        *,
        limiter: SocketLimiter,
        upgrader: Upgrader,
        make_handler: Callable[[str], TrackedRequestHandler],
    ) -> None:
        self._peer = peer
        self._key = key
        self._limiter = limiter
        self._upgrader = upgrader
        self._make_handler = make_handler
        self._head = b""
        self._transport: asyncio.Transport | None = None
        self._aborted = False

    @property
    def is_open(self) -> bool:
        """Whether the transport is connected."""
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Abort at once if the socket was already evicted from the pending sockets."""
        self._transport = cast("asyncio.Transport", transport)
        if self._aborted:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Buffer bytes until the head is complete, then upgrade or serve plain HTTP."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        head = self._head + data if self._head else data
        end = head.find(_END) + len(_END)
        if end < len(_END):
            if _may_become_head(head):
                self._head = head
            else:
                self._serve_plain(transport, head)
            return
        if b"websocket" not in head.lower():
            self._serve_plain(transport, head)
            return
        parser = HttpRequestParser(
            cast("Any", self),
            asyncio.get_running_loop(),
            _BODY_BUFFER_BYTES,
            max_line_size=_LINE_LIMIT_BYTES,
            max_field_size=_LINE_LIMIT_BYTES,
        )
        request = None
        with contextlib.suppress(HttpProcessingError):
            # Only the head is parsed: aiohttp rejects an upgrade request that has a body.
            messages, upgraded, _ = parser.feed_data(head[:end])
            if upgraded and len(messages) == 1:
                request = checked(messages[0][0])
        protocol = request and self._upgrader.upgrade(transport, self._peer, request)
        if protocol is None:
            self._serve_plain(transport, head)
            return
        self._limiter.remove(self)
        self._head = b""
        self._transport = None
        transport.set_protocol(protocol)
        if end < len(head):
            protocol.data_received(head[end:])

    def connection_lost(self, _exc: BaseException | None) -> None:
        """Remove the socket from the pending sockets."""
        self._limiter.remove(self)
        self._transport = None

    def abort(self) -> None:
        """Close the socket without a response, as soon as it is connected."""
        self._aborted = True
        if self._transport is not None:
            self._transport.abort()

    def reject(self, answer: bytes) -> None:
        """Send a response and close the socket."""
        if self._transport is not None:
            self._transport.write(answer)
            self._transport.close()

    def _serve_plain(self, transport: asyncio.Transport, head: bytes) -> None:
        """Hand the socket to aiohttp; it stays pending until its request is complete."""
        self._head = b""
        handler = self._make_handler(self._key)
        handler.take_place(self._limiter, self)
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


class Upgrader:
    """Starts a session handler, or a pipe to the upstream, for each upgrade request."""

    def __init__(
        self,
        context: SessionContext,
        *,
        trusted_proxies: tuple[Network, ...],
        metrics: Metrics,
        relay: Relay | None = None,
        door: PipeDoor | None = None,
    ) -> None:
        self._context = context
        self._relay = relay
        self._door = door
        self._metrics = metrics
        self._trusted_proxies = trusted_proxies
        self.clients: Final = Clients(
            trusted_proxies, service="gateway", on_unreadable=metrics.unreadable_proxies.inc
        )

    def upgrade(
        self, transport: asyncio.Transport, peer: str, request: FirstRequest
    ) -> asyncio.Protocol | None:
        """Upgrade a socket and return its protocol; None if the request must be rejected.

        That is when it is invalid or a limit is reached; `serve` sends the error response. `peer`
        is the IP address of the remote end of the socket.
        """
        headers = request.headers
        client = self.clients.address(peer, headers)
        if upgrade_problem(request) is not None:
            return None
        accepted = switching_protocols(headers)
        if self._context.connections.limit_reached(client.address.limit_key) is not None:
            return None
        if self._door is not None and self._door.is_for(request.path):
            return self._door.open(transport, Upgrade(peer, request.path, headers, client))
        return self._begin(transport, peer, headers, client, accepted)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Serve an upgrade that aiohttp parsed, or respond with why it is rejected."""
        problem = WITH_BODY if request.body_exists else upgrade_problem(request)
        if problem is not None:
            response = web.Response(
                status=problem.status, text=problem.text, headers=dict(problem.headers)
            )
            if request.body_exists:
                response.force_close()
            return response
        headers, peer = request.headers, request.remote or ""
        client = self.clients.address(peer, headers)
        reason = self._context.connections.limit_reached(client.address.limit_key)
        if reason is not None:
            self._metrics.turned_away.labels(
                "address" if "unauthenticated" in reason else "all"
            ).inc()
            return web.Response(status=503, text=reason)
        transport = request.transport
        if transport is None:
            return web.Response()
        door, protocol = self._door, None
        if door is not None and door.is_for(request.raw_path):
            upgrade = Upgrade(peer, request.raw_path, headers, client)
            protocol = door.open(transport, upgrade)
            if protocol is None:
                problem = door.problem(upgrade) or NO_ROOM
                return web.Response(status=problem.status, text=problem.text)
        if protocol is None:
            accepted = switching_protocols(headers)
            protocol = self._begin(transport, peer, headers, client, accepted)
        closed = asyncio.Event()
        if isinstance(request.protocol, TrackedRequestHandler):
            request.protocol.left()
            request.protocol.forward_flow_control(protocol)
        parser = SocketParser(protocol, on_end=closed.set)
        request.protocol.keep_alive(False)
        request.protocol.set_parser(cast("Any", parser))
        await closed.wait()
        return web.Response()

    def _begin(
        self,
        transport: asyncio.Transport,
        peer: str,
        headers: Headers,
        client: ClientAddress,
        accepted: bytes,
    ) -> SocketProtocol:
        """Register the connection and send the challenge, after the `accepted` response."""
        context, address = self._context, client.address
        connection = context.connections.open(transport, address.limit_key)
        request = RequestInfo(
            address=address.text,
            direct_loopback=client.direct_loopback,
            host=headers.get("Host", ""),
            origin=headers.get("Origin"),
        )
        connection_id = f"{context.identity.boot_id}:{connection.number}"
        handshake = Handshake(connection_id, new_nonce(), request, context.auth)
        relay = self._relay
        if relay is None:
            handler = SessionHandler(context, connection, handshake, request)
            protocol = SocketProtocol(transport, handler)
        else:
            forwarded = ForwardedClient(
                address=address.text,
                loopback=address.loopback,
                secure=over_https(peer, headers, self._trusted_proxies),
                host=request.host,
                origin=self._accepted_origin(request),
            )
            handler = relayed = RelayHandler(
                context, connection, handshake, request, relay=relay, client=forwarded
            )
            protocol = relayed.socket = SocketProtocol(transport, handler)
        handler.send_challenge(accepted)
        return protocol

    def _accepted_origin(self, request: RequestInfo) -> str | None:
        """Return the origin of a page that may connect; no other is forwarded to the upstream."""
        problem = origin_problem(
            request.origin,
            request.host,
            self._context.auth.allowed_origins,
            direct_loopback=request.direct_loopback,
        )
        return None if problem else request.origin
