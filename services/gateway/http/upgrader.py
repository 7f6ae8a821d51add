"""Upgrades requests to WebSockets, directly from a new socket or through aiohttp."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from aiohttp import web

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
from services.gateway.relay.headers import ForwardedClient
from services.gateway.session.handler import SessionHandler
from services.gateway.websocket.protocol import SocketParser, SocketProtocol
from shared.addresses import over_https
from shared.server.clients import Clients
from shared.server.http_protocol import TrackedRequestHandler

if TYPE_CHECKING:
    from multidict import CIMultiDict, CIMultiDictProxy

    from services.gateway.http.pipe_door import PipeDoor
    from services.gateway.metrics import Metrics
    from services.gateway.relay.relay import Relay
    from services.gateway.session.context import SessionContext
    from shared.addresses import ClientAddress
    from shared.settings import Network

    Headers = CIMultiDict[str] | CIMultiDictProxy[str]


class FirstRequest(UpgradeRequest, Protocol):
    """The head of a connection's first request, as it was parsed."""

    @property
    def path(self) -> str:
        """The target: path and query, as they came."""
        ...


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
        client = self.clients.address(peer, request.headers)
        if self._context.connections.limit_reached(client.address.limit_key) is not None:
            return None
        if upgrade_problem(request) is not None:
            return None
        door = self._door
        if door is not None and door.is_for(request.path):
            return door.open(transport, Upgrade(peer, request.path, request.headers, client))
        return self._begin(transport, peer, request.headers, client)

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
        client = self.clients.address(request.remote or "", request.headers)
        reason = self._context.connections.limit_reached(client.address.limit_key)
        if reason is not None:
            self._metrics.turned_away.labels(
                "address" if "unauthenticated" in reason else "all"
            ).inc()
            return web.Response(status=503, text=reason)
        transport, peer = request.transport, request.remote or ""
        if transport is None:
            return web.Response()
        door, protocol = self._door, None
        if door is not None and door.is_for(request.raw_path):
            upgrade = Upgrade(peer, request.raw_path, request.headers, client)
            protocol = door.open(transport, upgrade)
            if protocol is None:
                problem = door.problem(upgrade) or NO_ROOM
                return web.Response(status=problem.status, text=problem.text)
        if protocol is None:
            protocol = self._begin(transport, peer, request.headers, client)
        closed = asyncio.Event()
        if isinstance(request.protocol, TrackedRequestHandler):
            request.protocol.left()
            request.protocol.tell_flow(protocol)
        parser = SocketParser(protocol, on_end=closed.set)
        request.protocol.keep_alive(False)
        request.protocol.set_parser(cast("Any", parser))
        await closed.wait()
        return web.Response()

    def _begin(
        self, transport: asyncio.Transport, remote: str, headers: Headers, client: ClientAddress
    ) -> SocketProtocol:
        context = self._context
        connection = context.connections.open(transport, client.address.limit_key)
        peer = RequestInfo(
            address=client.address.text,
            direct_loopback=client.direct_loopback,
            host=headers.get("Host", ""),
            origin=headers.get("Origin"),
        )
        handshake = Handshake(
            f"{context.identity.boot_id}:{connection.number}", new_nonce(), peer, context.auth
        )
        relay = self._relay
        if relay is None:
            handler = SessionHandler(context, connection, handshake, peer)
            protocol = SocketProtocol(transport, handler)
        else:
            forwarded = ForwardedClient(
                address=client.address.text,
                loopback=client.address.loopback,
                secure=over_https(remote, headers, self._trusted_proxies),
                host=peer.host,
                origin=self._accepted_origin(peer),
            )
            handler = relayed = RelayHandler(
                context, connection, handshake, peer, relay=relay, client=forwarded
            )
            protocol = relayed.socket = SocketProtocol(transport, handler)
        handler.send_challenge(switching_protocols(headers))
        return protocol

    def _accepted_origin(self, peer: RequestInfo) -> str | None:
        """Return the origin of a page that may connect; the upstream hears of no other."""
        problem = origin_problem(
            peer.origin,
            peer.host,
            self._context.auth.allowed_origins,
            direct_loopback=peer.direct_loopback,
        )
        return None if problem else peer.origin
