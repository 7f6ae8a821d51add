"""Upgrades requests to WebSockets, directly from a new socket or through aiohttp."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web

from services.gateway.handshake.handshake import Handshake, new_nonce
from services.gateway.handshake.outcome import RequestInfo
from services.gateway.http.upgrade_request import (
    WITH_BODY,
    UpgradeRequest,
    switching_protocols,
    upgrade_problem,
)
from services.gateway.session.handler import SessionHandler
from services.gateway.websocket.protocol import SocketParser, SocketProtocol
from shared.server.clients import Clients
from shared.server.http_protocol import TrackedRequestHandler

if TYPE_CHECKING:
    from multidict import CIMultiDict, CIMultiDictProxy

    from services.gateway.metrics import Metrics
    from services.gateway.session.context import SessionContext
    from shared.addresses import ClientAddress
    from shared.settings import Network

    Headers = CIMultiDict[str] | CIMultiDictProxy[str]


class Upgrader:
    """Starts a session handler for each upgrade request."""

    def __init__(
        self, context: SessionContext, *, trusted_proxies: tuple[Network, ...], metrics: Metrics
    ) -> None:
        self._context = context
        self._metrics = metrics
        self.clients: Final = Clients(
            trusted_proxies, service="gateway", on_unreadable=metrics.unreadable_proxies.inc
        )

    def upgrade(
        self, transport: asyncio.Transport, peer: str, request: UpgradeRequest
    ) -> SocketProtocol | None:
        """Upgrade a socket and return its protocol; None if the request must be rejected.

        That is when it is invalid or a limit is reached; `serve` sends the error response. `peer`
        is the IP address of the remote end of the socket.
        """
        client = self.clients.address(peer, request.headers)
        if self._context.connections.limit_reached(client.address.limit_key) is not None:
            return None
        if upgrade_problem(request) is not None:
            return None
        return self._begin(transport, request.headers, client)

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
        closed = asyncio.Event()
        if request.transport is not None:
            protocol = self._begin(request.transport, request.headers, client)
            if isinstance(request.protocol, TrackedRequestHandler):
                request.protocol.left()
            parser = SocketParser(protocol, on_end=closed.set)
            request.protocol.keep_alive(False)
            request.protocol.set_parser(cast("Any", parser))
            await closed.wait()
        return web.Response()

    def _begin(
        self, transport: asyncio.Transport, headers: Headers, client: ClientAddress
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
        handler = SessionHandler(context, connection, handshake, peer)
        handler.send_challenge(switching_protocols(headers))
        return SocketProtocol(transport, handler)
