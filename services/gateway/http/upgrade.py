"""From the first bytes of a socket to a WebSocket session, or to aiohttp for plain HTTP."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

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
from services.gateway.relay.rules.headers import ForwardedClient
from services.gateway.session.handler import SessionHandler
from services.gateway.session.holding import HoldingSession
from services.gateway.websocket.passing_parser import PassingParser
from services.gateway.websocket.protocol import SocketParser, SocketProtocol
from shared.addresses.client import client_address, is_trusted, over_https
from shared.server.accept import TRY_LATER
from shared.server.clients import Clients
from shared.server.http_protocol import TrackedRequestHandler
from shared.server.loop_budget import Lane
from shared.server.strict_http import LINE_LIMIT_BYTES, is_other_version, parse_upgrade
from shared.server.upgrade_limit import UPGRADES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.gateway.connections.places import Limit
    from services.gateway.http.pipe_door import PipeDoor
    from services.gateway.metrics import Metrics
    from services.gateway.relay.relay import Relay
    from services.gateway.session.context import SessionContext
    from shared.addresses.client import ClientAddress
    from shared.server.socket_limiter import SocketLimiter
    from shared.settings.environment import Network

RETRY_SECONDS: Final = 2
"""When to retry an upgrade that was rejected because of a limit."""
_METHOD: Final = b"GET "
_END: Final = b"\r\n\r\n"
_UPGRADES: Final = Lane.UPGRADES
_HEAD_LIMIT_BYTES: Final = 32 * 1024
"""Cap on the head that is buffered here; aiohttp rejects longer ones."""


class UpgradeProtocol(asyncio.Protocol):
    """Buffers the head of the first request; `limiter` counts it as a pending socket.

    `make_handler` makes the aiohttp handler for a plain request; it gets the address key for
    limits.
    """

    __slots__ = (
        "_aborted",
        "_end",
        "_head",
        "_key",
        "_limiter",
        "_make_handler",
        "_peer",
        "_transport",
        "_upgrader",
        "_waits",
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
        self._end = 0
        """Where the head ends, once it is complete."""
        self._waits = False
        """Whether the upgrade waits for loop time."""
        self._transport: asyncio.Transport | None = None
        self._aborted = False

    @property
    def is_open(self) -> bool:
        """Whether the transport is connected."""
        return self._transport is not None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Abort at once if the socket was already evicted from the pending sockets."""
        self._transport = transport
        if self._aborted:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Buffer bytes until the head is complete, then upgrade or serve plain HTTP."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        head = self._head + data if self._head else data
        if self._waits:
            self._head = head
            if len(head) > _HEAD_LIMIT_BYTES:
                transport.abort()
            return
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
        budget = self._upgrader.budget
        began = budget.begin(_UPGRADES)
        if began:
            self._upgrade(transport, head, end)
            budget.end(_UPGRADES, began)
        elif head.startswith(self._upgrader.unfiltered) or budget.upgrades()[0] >= UPGRADES_MAX:
            self._turn_away()
        else:
            self._head, self._end, self._waits = head, end, True
            budget.wait(_UPGRADES, self)

    def run_slice(self, *, overdue: bool) -> bool:
        """Upgrade the socket, which had to wait; one that waited too long is turned away."""
        transport = self._transport
        self._waits = False
        if transport is None or transport.is_closing():
            return False
        if overdue:
            self._turn_away()
        else:
            self._upgrade(transport, self._head, self._end)
        return False

    def connection_lost(self, _exc: BaseException | None) -> None:
        """Remove the socket from the pending sockets."""
        self._limiter.remove(self)
        self._transport = None
        if self._waits:
            self._waits = False
            self._upgrader.budget.upgrade_gave_up(self)

    def abort(self) -> None:
        """Close the socket without a response, as soon as it is connected."""
        self._aborted = True
        self._stop_waiting()
        if self._transport is not None:
            self._transport.abort()

    def reject(self, answer: bytes) -> None:
        """Send a response and close the socket."""
        self._stop_waiting()
        if self._transport is not None:
            self._transport.write(answer)
            self._transport.close()

    def _stop_waiting(self) -> None:
        """Leave the queue; the client did not give up."""
        if self._waits:
            self._waits = False
            self._upgrader.budget.remove(self)

    def _turn_away(self) -> None:
        self._upgrader.on_turned_away()
        self.reject(next(TRY_LATER))

    def _upgrade(self, transport: asyncio.Transport, head: bytes, end: int) -> None:
        protocol = self._upgrader.upgrade(transport, self._peer, head[:end])
        if protocol is None:
            self._serve_plain(transport, head)
            return
        self._limiter.remove(self)
        self._head = b""
        self._transport = None
        transport.set_protocol(protocol)
        if end < len(head):
            protocol.data_received(head[end:])

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
        return len(head) <= LINE_LIMIT_BYTES
    lines_end_well = head.count(b"\n") == head.count(b"\r\n")
    return lines_end_well and len(head) <= _HEAD_LIMIT_BYTES and not is_other_version(head)


class Upgrader:
    """Starts a session handler, or a pipe to the upstream, for each upgrade request.

    The kernel always lets requests that begin with one of `unfiltered` through. Upgrades among them
    never wait, because they could take every place in the queue.
    """

    def __init__(
        self,
        context: SessionContext,
        *,
        trusted_proxies: tuple[Network, ...],
        metrics: Metrics,
        unfiltered: Sequence[bytes],
        relay: Relay | None = None,
        door: PipeDoor | None = None,
    ) -> None:
        self._context = context
        holds = context.connections.held.limits.seconds > 0
        self._session: Final = HoldingSession if holds else SessionHandler
        self.unfiltered: Final = tuple(unfiltered)
        self._relay = relay
        self._door = door
        self._metrics = metrics
        self._trusted_proxies = trusted_proxies
        self.budget: Final = context.loop_budget
        self.clients: Final = Clients(
            trusted_proxies, service="gateway", on_unreadable=metrics.unreadable_proxies.inc
        )

    def upgrade(
        self, transport: asyncio.Transport, peer: str, head: bytes | web.Request
    ) -> asyncio.Protocol | None:
        """Upgrade a socket and return its protocol; None if the request must be rejected.

        That is when it is invalid or a limit is reached; `serve` sends the error response. `peer`
        is the IP address of the remote end of the socket, and `head` the head of its request, in
        bytes or as aiohttp parsed it.

        A WebSocket is registered, and its challenge sent together with the 101 response.
        """
        if isinstance(head, bytes):
            parsed = parse_upgrade(head)
            if parsed is None:
                return None
            request: UpgradeRequest = parsed
            target = parsed.path
        else:
            request, target = head, head.raw_path
        headers = request.headers
        client = self.clients.address(peer, headers)
        if upgrade_problem(request) is not None:
            return None
        switching = switching_protocols(headers)
        context, address = self._context, client.address
        is_pipe = self._door is not None and self._door.is_for(target)
        if self._limit_reached(client, peer, displaces=not is_pipe) is not None:
            return None
        if self._door is not None and is_pipe:
            return self._door.open(transport, Upgrade(peer, target, headers, client))
        info = RequestInfo(
            address=address.text,
            direct_loopback=client.direct_loopback,
            host=headers.get("Host", ""),
            origin=headers.get("Origin"),
        )
        connection = context.connections.open(
            transport,
            address.limit_key,
            trusted_local=context.auth.trusts_local and info.direct_loopback and not info.origin,
        )
        connection_id = f"{context.identity.boot_id}:{connection.number}"
        handshake = Handshake(connection_id, new_nonce(), info, context.auth)
        relay = self._relay
        if relay is None:
            handler = self._session(context, connection, handshake, info)
            handler.socket = SocketProtocol(transport, handler, context.memory, context.loop_budget)
            handler.send_challenge(switching)
            return handler.socket
        forwarded = ForwardedClient(
            address=address.text,
            loopback=address.loopback,
            secure=over_https(peer, headers, self._trusted_proxies),
            host=info.host,
            origin=self._accepted_origin(info),
        )
        relayed = RelayHandler(context, connection, handshake, info, relay=relay, client=forwarded)
        relayed.socket = SocketProtocol(
            transport, relayed, context.memory, context.loop_budget, PassingParser
        )
        relayed.send_challenge(switching)
        return relayed.socket

    def on_turned_away(self) -> None:
        """Count an upgrade that waited too long, or would have to."""
        self._metrics.turned_away.labels("upgrade").inc()

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
        transport, handler = request.transport, request.protocol
        if transport is None:
            return web.Response()
        tracked = handler if isinstance(handler, TrackedRequestHandler) else None
        protocol = self.upgrade(transport, request.remote or "", request)
        if protocol is None:
            return self._rejected(request)
        closed = asyncio.Event()
        if tracked is not None:
            tracked.left()
            tracked.forward_flow_control(protocol)
        parser = SocketParser(protocol, on_end=closed.set)
        handler.keep_alive(False)
        handler.set_parser(cast("Any", parser))
        await closed.wait()
        return web.Response()

    def _rejected(self, request: web.Request) -> web.Response:
        """Return the response to a valid upgrade request that was rejected."""
        headers, peer = request.headers, request.remote or ""
        client = client_address(peer, headers, self._trusted_proxies)
        limit = self._limit_reached(client, peer, displaces=False)
        if limit is not None:
            self._metrics.turned_away.labels(limit.name).inc()
            retry = {"Retry-After": str(RETRY_SECONDS)}
            return web.Response(status=503, text=limit.refusal, headers=retry)
        upgrade = Upgrade(peer, request.raw_path, headers, client)
        problem = (self._door and self._door.problem(upgrade)) or NO_ROOM
        return web.Response(status=problem.status, text=problem.text)

    def _limit_reached(self, client: ClientAddress, peer: str, *, displaces: bool) -> Limit | None:
        """Displace others for a newcomer if necessary; return the limit that rejects it, if any.

        The limit on all connections of an address is not for trusted proxies that name no client,
        nor for trusted local clients.
        """
        connections, address = self._context.connections, client.address
        limit = connections.places.limit_reached(address.limit_key, is_exempt=False)
        if limit is None:
            return None
        is_exempt = (client.direct_loopback and self._context.auth.trusts_local) or (
            address.text == peer and is_trusted(peer, self._trusted_proxies)
        )
        if displaces:
            return connections.make_room(address.limit_key, is_exempt=is_exempt)
        return connections.places.limit_reached(address.limit_key, is_exempt=is_exempt)

    def _accepted_origin(self, request: RequestInfo) -> str | None:
        """Return the origin of a page that may connect; no other is forwarded to the upstream."""
        problem = origin_problem(
            request.origin,
            request.host,
            self._context.auth.allowed_origins,
            direct_loopback=request.direct_loopback,
        )
        return None if problem else request.origin
