"""A gateway inside the test: its own parts on a real socket, with a scripted approval.

Time is a FakeClock unless a test asks for the real one: `pass_time` advances it and runs the
sweeper, as the gateway's own task would.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from aiohttp import web

from services.gateway.connections.deadlines import SWEEP_SECONDS
from services.gateway.connections.hub import Hub
from services.gateway.connections.places import PlaceLimits
from services.gateway.handshake.outcome import AuthConfig
from services.gateway.http.join import JoinView
from services.gateway.http.limits import socket_limiter
from services.gateway.http.routes import Views, add_routes
from services.gateway.http.upgrade import UpgradeProtocol, Upgrader
from services.gateway.methods.dispatcher import Dispatcher
from services.gateway.methods.forwarder import Forwarder
from services.gateway.methods.setup_client import SetupClient
from services.gateway.metrics import Metrics
from services.gateway.replication.presence import Presence
from services.gateway.replication.recent_refusals import RecentRefusals
from services.gateway.session.context import ReplicaIdentity, SessionContext
from services.gateway.websocket.memory import MemoryBudget
from services.gateway.websocket.protocol import SocketProtocol
from shared.bus.errors import Unavailable
from shared.device.client import DeviceClient
from shared.device.handshake import Credentials
from shared.device.identity import DeviceKey
from shared.device.profile import CLI
from shared.observability.health import Readiness
from shared.observability.ops import OpsViews
from shared.rpc.messages import (
    Answer,
    AuthorizeDevice,
    Call,
    Outcome,
    Position,
    ReportSecret,
    Result,
    SecretAccepted,
)
from shared.secret_digests import SecretDigests
from shared.server.accept import BulkAcceptor
from shared.server.http_protocol import (
    KEEPALIVE_SECONDS,
    TrackedRequestHandler,
    busy_response,
)
from shared.server.loop_budget import LoopBudget
from shared.server.plain_limits import PlainLimits
from shared.server.plain_requests import PlainRequests
from shared.server.sockets import open_sockets
from shared.settings.environment import Secrets
from tests.support.clock import FakeClock, turns
from tests.support.websocket.raw_socket import RawSocket
from tools.support.peers import admit
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from services.gateway.approval.client import Then
    from services.gateway.connections.connection import Connection
    from services.gateway.dashboard.handler import Dashboard
    from shared.device.profile import Profile
    from shared.settings.environment import Network

HOST: Final = "127.0.0.1"
TOKEN: Final = "the gateway token of these tests"
BOOT_ID: Final = "harness"
HANDLERS_SECONDS: Final = 2.0
PLAIN_LIMITS: Final = PlainLimits()


async def _done(_call: Call) -> Outcome:
    return Result(Position(), b'{"done":true}')


def socket_of(connection: Connection) -> SocketProtocol:
    """Return the gateway's end of a connection."""
    protocol = connection.transport.get_protocol()
    assert isinstance(protocol, SocketProtocol)
    return protocol


class ScriptedApprovals:
    """A scripted approval: recorded requests, scripted answers, and whether answers still count."""

    def __init__(self) -> None:
        self._answering: set[asyncio.Task[None]] = set()
        self.asked: list[AuthorizeDevice] = []
        self.reports: list[ReportSecret] = []
        """Reported secrets without a device, or for which no device could authenticate."""
        self.answer: Callable[[AuthorizeDevice], Awaitable[Answer]] = admit
        self.leased = True
        self.calls: list[Call] = []
        """The called methods."""
        self.outcome: Callable[[Call], Awaitable[Outcome]] = _done

    @property
    def answering(self) -> int:
        """The number of unanswered requests."""
        return len(self._answering)

    def request(self, question: AuthorizeDevice | ReportSecret, then: Then) -> None:
        """Record the request and answer by the script; no client is locked out."""
        loop = asyncio.get_running_loop()
        if isinstance(question, ReportSecret):
            self.reports.append(question)
            loop.call_soon(then, SecretAccepted(Position(1, "t")))
            return
        self.asked.append(question)
        task = loop.create_task(self._answer(question, then))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, question: AuthorizeDevice, then: Then) -> None:
        try:
            answer = await self.answer(question)
        except Unavailable as missing:
            then(missing)
        else:
            then(answer)

    async def call(self, call: Call) -> Outcome:
        """Record the call and answer by the script."""
        self.calls.append(call)
        return await self.outcome(call)

    def require_lease(self) -> None:
        """Raise the error for a lost lease if the script says so."""
        if not self.leased:
            raise Unavailable("no-lease")


class _Upkeep:
    milliseconds = 0.0


class GatewayHarness:
    """One gateway on its own port. `protocols` lists every protocol that aiohttp created."""

    def __init__(
        self,
        *,
        preauth_limit: int = 32,
        connection_limit: int = 20_000,
        per_address: int = 10_000,
        per_device: int = 64,
        memory_limit_bytes: int = 134_217_728,
        allowed_origins: frozenset[str] = frozenset(),
        trusted_proxies: tuple[Network, ...] = (),
        own_ops_port: bool = False,
        approval_public_url: str = "",
        dashboard: Dashboard | None = None,
        plain_limits: PlainLimits = PLAIN_LIMITS,
        hold_seconds: float = 0.0,
    ) -> None:
        self.clock = FakeClock()
        self.approvals = ScriptedApprovals()
        self.metrics = Metrics()
        self.presence = Presence()
        self.refusals = RecentRefusals()
        limits = PlaceLimits(connection_limit, per_address, per_device, preauth_limit)
        self.connections = Hub(
            self.clock,
            self.presence,
            leased=lambda: self.approvals.leased,
            limits=limits,
            hold_seconds=hold_seconds,
        )
        self.metrics.watch_displaced(self.connections.places.displaced)
        self.metrics.watch_held(self.connections.held)
        self.metrics.watch_tasks()
        self.metrics.watch_connections(
            lambda: self.connections.pending, lambda: self.connections.admitted
        )
        self.limiter = socket_limiter(
            self.clock,
            self.connections,
            self.metrics,
            trusted_proxies=trusted_proxies,
        )
        self.methods = Dispatcher(self.clock)
        self.protocols: list[TrackedRequestHandler] = []
        self.memory = MemoryBudget(self.clock, limit_bytes=memory_limit_bytes)
        self.loop_budget = LoopBudget(lambda run: asyncio.get_running_loop().call_soon(run))
        setup = SetupClient(BOOT_ID, self.approvals)
        host = SessionContext(
            identity=ReplicaIdentity(BOOT_ID, "1.2.3", approval_public_url),
            auth=AuthConfig(Secrets([TOKEN]), allowed_origins, SecretDigests(["any bus secret"])),
            approvals=self.approvals,
            connections=self.connections,
            dispatcher=self.methods,
            forwarder=Forwarder(self.approvals, self.connections, self.metrics),
            metrics=self.metrics,
            clock=self.clock,
            refusals=self.refusals,
            memory=self.memory,
            loop_budget=self.loop_budget,
            setup=setup,
        )
        self.sockets = Upgrader(
            host, trusted_proxies=trusted_proxies, metrics=self.metrics, unfiltered=()
        )
        ops = self.ops = OpsViews(
            readiness=Readiness(BOOT_ID, {}),
            registry=self.metrics.registry,
            clock=self.clock,
            loop_delay=_Upkeep(),
            own_port=own_ops_port,
        )
        self._app = web.Application()
        add_routes(
            self._app,
            Views(
                self.sockets,
                ops,
                public_url="",
                approval_public_url=approval_public_url,
                own_ops_port=own_ops_port,
                join=JoinView(setup, self.sockets.clients),
                elsewhere=None if dashboard is None else dashboard.serve,
            ),
        )
        self.plain_requests = PlainRequests(
            self.clock,
            limits=plain_limits,
            count=self.metrics.plain_http.dropped,
            refusal=busy_response,
        )
        self._trusted_proxies = trusted_proxies
        self._runner = web.AppRunner(
            self._app,
            access_log=None,
            shutdown_timeout=HANDLERS_SECONDS,
            handler_cancellation=True,
        )
        self._acceptor: BulkAcceptor | None = None
        self._raws: list[RawSocket] = []
        self.port = 0
        self.keepalive_seconds = KEEPALIVE_SECONDS
        """The deadline for a complete request, from the connection's start or the last request."""

    @property
    def url(self) -> str:
        """The HTTP URL."""
        return f"http://{HOST}:{self.port}"

    @property
    def ws_url(self) -> str:
        """The WebSocket URL."""
        return f"ws://{HOST}:{self.port}"

    @property
    def open_connections(self) -> list[Connection]:
        """The open connections in order of arrival."""
        return sorted(self.connections._all, key=lambda item: item.number)

    def device(
        self,
        profile: Profile = CLI,
        *,
        key: DeviceKey | None = None,
        origin: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> DeviceClient:
        """Return a device that knows the gateway token."""
        return DeviceClient(
            self.ws_url,
            key or DeviceKey.generate(),
            profile,
            token=TOKEN,
            origin=origin,
            headers=headers,
        )

    async def raw(
        self,
        *,
        path: str = "/",
        headers: Sequence[tuple[str, str]] = (),
        source: str | None = None,
        receive_buffer: int | None = None,
    ) -> RawSocket:
        """Open a raw WebSocket; it is closed at the end."""
        raw = await RawSocket.open(
            self.port, path=path, headers=headers, source=source, receive_buffer=receive_buffer
        )
        self._raws.append(raw)
        return raw

    async def admitted(
        self, profile: Profile = CLI, *, receive_buffer: int | None = None
    ) -> tuple[RawSocket, Connection]:
        """Return an admitted raw socket and the gateway's end of it."""
        before = set(self.connections._all)
        raw = await self.raw(receive_buffer=receive_buffer)
        answer = await raw.connect(DeviceKey.generate(), profile, Credentials(token=TOKEN))
        assert answer["ok"], answer
        (connection,) = self.connections._all - before
        return raw, connection

    async def pass_time(self, seconds: float) -> None:
        """Advance the clock, sweeping four times a second."""
        for _ in range(round(seconds / SWEEP_SECONDS)):
            self.clock.advance(SWEEP_SECONDS)
            self.connections.sweep()
            self.memory.sweep()
            self.loop_budget.sweep()
            self.limiter.sweep()
            self.plain_requests.sweep()
            await turns(2)

    async def empty(self) -> None:
        """Wait until every connection is gone."""
        await until(lambda: not len(self.connections), "no connection is left")

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        loop = asyncio.get_running_loop()

        def plain(key: str) -> TrackedRequestHandler:
            made = TrackedRequestHandler(
                server,
                loop=loop,
                access_log=None,
                tcp_keepalive=False,
                keepalive_timeout=self.keepalive_seconds,
            )
            made.schedule(self.plain_requests, key, self._trusted_proxies)
            self.protocols.append(made)
            return made

        make_protocol = partial(
            UpgradeProtocol, limiter=self.limiter, upgrader=self.sockets, make_handler=plain
        )

        listeners = open_sockets((HOST,), 0)
        self.port = listeners[0].getsockname()[1]
        self._acceptor = BulkAcceptor(
            listeners,
            partial(self.limiter.accept, make_protocol),
            lambda: None,
            upgrades=self.loop_budget.upgrades,
            on_turned_away=self.metrics.turned_away.labels("accept").inc,
        )
        self._acceptor.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._acceptor is not None
        self._acceptor.stop()
        for raw in self._raws:
            raw.hang_up()
        self.limiter.end_silent()
        for connection in self.open_connections:
            connection.transport.abort()
        await self._runner.cleanup()
