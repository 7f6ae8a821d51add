"""A socket's life: challenge, verdict, frames, close. The handshake decides, this does it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import WebSocketError, WSMsgType, web

from services.gateway import log_events
from services.gateway.attempts import Attempts
from services.gateway.handshake import Handshake
from services.gateway.methods import Session
from services.gateway.outgoing import pong_frame
from services.gateway.sockets import Socket, SocketProtocol
from services.gateway.verdicts import Peer, Rules, Welcome
from shared.addresses import client_address
from shared.bus.errors import Unavailable
from shared.messages import Admission, Knock
from shared.protocol import refusals
from shared.protocol.closing import CloseCode, answer_to_close
from shared.protocol.events import challenge, events_of
from shared.protocol.frames import failure
from shared.protocol.hello import Features, hello_ok
from shared.protocol.limits import (
    FRAME_LIMIT_BYTES,
    PREAUTH_FRAME_LIMIT_BYTES,
    PROTOCOLS,
    QUEUED_FRAMES_LIMIT,
)
from shared.protocol.methods import METHODS
from shared.protocol.refusals import Refusal

if TYPE_CHECKING:
    from aiohttp.http import WSMessageNoDecodeText as WSMessage

    from services.gateway.approvals import Approvals
    from services.gateway.calls import Calls
    from services.gateway.connection import Connection
    from services.gateway.connections import Connections
    from services.gateway.methods import Methods
    from services.gateway.metrics import Metrics
    from services.gateway.verdicts import Effect
    from shared.clock import Clock
    from shared.settings import Network

RETRY_LEAST_MS: Final = 500
RETRY_MOST_MS: Final = 5_000
"""Bounds of the jittered `retryAfterMs` of UNAVAILABLE: clients come back spread over them."""

_BROKEN: Final = CloseCode.PROTOCOL_MISMATCH
_UNTRUSTED_REMEMBERED: Final = 64


@dataclass(frozen=True, slots=True)
class Identity:
    """What this replica calls itself, and where people approve devices."""

    boot_id: str
    version: str
    approval_public_url: str


class Sockets:
    """Serves WebSocket upgrades."""

    def __init__(
        self,
        *,
        identity: Identity,
        rules: Rules,
        trusted_proxies: tuple[Network, ...],
        approvals: Approvals,
        connections: Connections,
        methods: Methods,
        calls: Calls,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._identity = identity
        self._rules = rules
        self._trusted_proxies = trusted_proxies
        self._approvals = approvals
        self._connections = connections
        self._methods = methods
        self._calls = calls
        self._metrics = metrics
        self._clock = clock
        self._attempts = Attempts(metrics, clock, identity.approval_public_url)
        self._log = structlog.get_logger("gateway")
        self._features = {one: _features(one) for one in PROTOCOLS}
        self._started = clock.monotonic()
        self._untrusted: set[str] = set()

    @property
    def untrusted_proxies(self) -> frozenset[str]:
        """Peers whose forwarding headers were ignored; TRUSTED_PROXIES would mend it."""
        return frozenset(self._untrusted)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Take a socket through its whole life."""
        where = client_address(request.remote or "", request.headers, self._trusted_proxies)
        if where.untrusted_proxy:
            self._tell_untrusted(request.remote or "")
        full = self._connections.no_room_for(where.address.limit_key)
        if full is not None:
            self._metrics.turned_away.labels(
                "address" if "unauthenticated" in full else "all"
            ).inc()
            return web.Response(status=503, text=full)
        socket = Socket(message_limit_bytes=FRAME_LIMIT_BYTES + 1)
        with contextlib.suppress(ConnectionResetError):
            await socket.prepare(request)
        protocol, transport = request.protocol, request.transport
        if not isinstance(protocol, SocketProtocol) or transport is None or not socket.prepared:
            return socket
        connection = self._connections.open(transport, where.address.limit_key)
        protocol.guard(
            on_flood=lambda: self._connections.close(connection, CloseCode.TOO_BIG, ""),
            on_lost=lambda: self._connections.lost(connection),
        )
        peer = Peer(
            address=where.address.text,
            direct_loopback=where.direct_loopback,
            host=request.headers.get("Host", ""),
            origin=request.headers.get("Origin"),
        )
        handshake = Handshake(
            f"{self._identity.boot_id}:{connection.number}",
            str(uuid.uuid4()),
            peer,
            self._rules,
        )
        try:
            await self._live(connection, socket, protocol, handshake, peer)
        finally:
            self._connections.hang_up(connection, CloseCode.NORMAL)
        return socket

    async def _live(
        self,
        connection: Connection,
        socket: Socket,
        protocol: SocketProtocol,
        handshake: Handshake,
        peer: Peer,
    ) -> None:
        began = self._clock.monotonic()
        connection.send(challenge(handshake.nonce, self._clock.wall_ms()))
        verdict = await self._verdict(connection, socket, handshake)
        queued: list[WSMessage] = []
        if isinstance(verdict, Welcome) and protocol.received > handshake.wire_bytes:
            queued = await self._queued(connection, socket)
            if len(queued) > QUEUED_FRAMES_LIMIT:
                verdict = refusals.TOO_MANY_FRAMES
        if isinstance(verdict, Welcome) and connection.closing:
            verdict = None
        if isinstance(verdict, Welcome):
            try:
                self._approvals.require_current(verdict.answer, verdict.device_id)
            except Unavailable as missing:
                verdict = self._unavailable(handshake, missing)
        self._attempts.ended(handshake, peer, began, verdict, closed_with=connection.closed_with)
        if isinstance(verdict, Welcome):
            self._admit(
                connection,
                protocol,
                verdict,
                connection_id=handshake.connection_id,
                address=peer.address,
            )
            await self._serve_frames(connection, socket, queued)
            return
        if isinstance(verdict, Refusal):
            if verdict.error is not None:
                connection.send(failure(handshake.frame_id, verdict.error))
            self._connections.close(connection, verdict.close_code, verdict.close_reason)
        while await self._next_message(connection, socket) is not None:
            pass

    async def _verdict(
        self, connection: Connection, socket: Socket, handshake: Handshake
    ) -> Welcome | Refusal | None:
        """Return what becomes of the client; None when it left, or was closed, before."""
        message = await self._next_message(connection, socket)
        if message is None or connection.closing:
            return None
        effect = self._judged(handshake, message)
        try:
            if isinstance(effect, Admission | Knock):
                return handshake.on_answer(await self._approvals.ask(effect))
        except Unavailable as missing:
            return self._unavailable(handshake, missing)
        return effect

    def _judged(self, handshake: Handshake, message: WSMessage) -> Effect:
        if len(message.data) > PREAUTH_FRAME_LIMIT_BYTES:
            return refusals.TOO_BIG
        if message.type is not WSMsgType.TEXT:
            return refusals.INVALID_FRAME
        return handshake.on_frame(message.data, now_ms=self._clock.wall_ms())

    def _unavailable(self, handshake: Handshake, missing: Unavailable) -> Refusal:
        return handshake.on_unavailable(
            missing.reason,
            missing.dependency,
            retry_after_ms=random.randint(RETRY_LEAST_MS, RETRY_MOST_MS),  # noqa: S311 (spread)
        )

    def _admit(
        self,
        connection: Connection,
        protocol: SocketProtocol,
        welcome: Welcome,
        *,
        connection_id: str,
        address: str,
    ) -> None:
        grant = welcome.grant
        session = Session(
            connection_id=connection_id,
            protocol=welcome.protocol,
            role=grant.role,
            scopes=grant.scopes,
            device_id=welcome.device_id,
            method=grant.method,
            address=address,
            epoch=welcome.answer.epoch if welcome.answer else "",
        )
        self._connections.admit(connection, session)
        protocol.trust()
        connection.send(
            hello_ok(
                welcome.frame_id,
                protocol=welcome.protocol,
                version=self._identity.version,
                connection_id=connection_id,
                features=self._features[welcome.protocol],
                grant=grant,
                uptime_ms=int((self._clock.monotonic() - self._started) * 1000),
            )
        )

    async def _serve_frames(
        self, connection: Connection, socket: Socket, queued: list[WSMessage]
    ) -> None:
        session = connection.session
        if session is None:
            return
        for message in queued:
            self._serve_frame(connection, session, message)
        while (coming := await self._next_message(connection, socket)) is not None:
            self._serve_frame(connection, session, coming)
        if connection.closed_with is not None and connection.closed_with[0] != CloseCode.NORMAL:
            code, reason = connection.closed_with
            self._log.info(
                log_events.DISCONNECTED.name,
                connection=session.connection_id,
                device=session.device_id,
                code=int(code),
                reason=reason,
            )

    def _serve_frame(self, connection: Connection, session: Session, message: WSMessage) -> None:
        if message.type is not WSMsgType.TEXT or not self._connections.serves(connection):
            return
        turn = self._methods.on_frame(session, message.data)
        if turn.call is not None:
            self._calls.start(connection, session, turn.call)
        if turn.frame is not None:
            connection.send(turn.frame)
        if turn.close is not None:
            self._connections.close(connection, *turn.close)

    async def _next_message(self, connection: Connection, socket: Socket) -> WSMessage | None:
        """Return the next text or binary message; None once the peer is gone."""
        while True:
            message = await socket.receive()
            connection.pinged = False
            self._connections.close_if_slow(connection)
            kind = message.type
            if kind is WSMsgType.TEXT or kind is WSMsgType.BINARY:
                return message
            if kind is WSMsgType.PING:
                if self._connections.serves(connection):
                    connection.transport.write(pong_frame(message.data))
            elif kind is WSMsgType.CLOSE:
                self._connections.hang_up(connection, answer_to_close(message.data))
                return None
            elif kind is WSMsgType.ERROR:
                broken = message.data
                code = broken.code if isinstance(broken, WebSocketError) else _BROKEN
                self._connections.close(connection, code, "")
                # A peer that still sends would not see our close frame if the transport ended now.
                await self._connections.gone(connection)
                return None
            elif kind is not WSMsgType.PONG:
                return None

    async def _queued(self, connection: Connection, socket: Socket) -> list[WSMessage]:
        """Return the frames that came ahead of hello-ok: those that can be had without waiting."""
        queued: list[WSMessage] = []
        try:
            async with asyncio.timeout(0):
                while len(queued) <= QUEUED_FRAMES_LIMIT:
                    message = await self._next_message(connection, socket)
                    if message is None:
                        break
                    queued.append(message)
        except TimeoutError:
            pass
        return queued

    def _tell_untrusted(self, peer: str) -> None:
        if peer in self._untrusted or len(self._untrusted) >= _UNTRUSTED_REMEMBERED:
            return
        self._untrusted.add(peer)
        self._log.warning(
            log_events.UNTRUSTED_PROXY.name,
            peer=peer,
            advice="if this is your proxy, add its address to TRUSTED_PROXIES",
        )


def _features(protocol: int) -> Features:
    """Return what there is in a version of the protocol."""
    methods = sorted(name for name, one in METHODS.items() if protocol in one.protocols)
    return Features(methods=methods, events=events_of(protocol))
