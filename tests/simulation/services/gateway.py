"""A gateway replica assembled as `services.gateway.app` does, on simulated connections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from services.gateway.approval.event_handler import EventHandler
from services.gateway.connections.hub import Hub
from services.gateway.connections.places import PlaceLimits
from services.gateway.connections.sweeper import Sweeper
from services.gateway.handshake.handshake import Handshake
from services.gateway.handshake.outcome import AuthConfig, RequestInfo
from services.gateway.methods.dispatcher import Dispatcher
from services.gateway.methods.forwarder import Forwarder
from services.gateway.methods.setup_client import SetupClient
from services.gateway.replication.recent_refusals import RecentRefusals
from services.gateway.session.context import ReplicaIdentity, SessionContext
from services.gateway.session.handler import SessionHandler
from services.gateway.websocket.memory import MemoryBudget
from shared.bus.channels import EVENTS, inbox_channel
from shared.rpc.requester import Requester
from shared.rpc.responder_pool import ResponderPool
from shared.secret_digests import SecretDigests
from shared.server.loop_budget import LoopBudget
from shared.server.socket_limiter import SocketLimiter
from shared.settings.environment import Secrets
from tests.simulation.engine.network import Line
from tests.simulation.services.metrics import NoMetrics
from tests.simulation.services.seal import SimulatedEnvelope

if TYPE_CHECKING:
    from tests.simulation.checks.oracle import Oracle
    from tests.simulation.engine.world import Process, World
    from tests.simulation.mutants.rules import Variant
    from tests.simulation.redis.server import Server
    from tests.simulation.services.sockets import SimulatedSocket

BUS_SECRET: Final = "the secret of the simulated bus, long enough"
GATEWAY_TOKEN: Final = "the gateway token of the simulation"
BEAT_SECONDS: Final = 1.0
_METRICS: Final[Any] = NoMetrics()
_MEMORY_LIMIT_BYTES: Final = 1_000_000
_RULES: Final = AuthConfig(Secrets((GATEWAY_TOKEN,)), frozenset(), SecretDigests((BUS_SECRET,)))


class GatewayProcess:
    """One life of a gateway; a restart creates another."""

    def __init__(
        self,
        world: World,
        name: str,
        server: Server,
        oracle: Oracle,
        variant: Variant,
    ) -> None:
        self.process: Process = world.process(name)
        self.lines = [Line(world, kind, server) for kind in ("publishing", "subscription")]
        self._world = world
        process, clock = self.process, self.process.clock
        boot_id, loop = process.boot_id, process.loop
        self.presence = variant.presence()
        refusals = RecentRefusals()
        self.connections = Hub(
            clock,
            self.presence,
            leased=lambda: self.beat.leased,
            limits=PlaceLimits(
                total=1_000, per_address=1_000, per_device=64, deviceless_per_address=32
            ),
        )
        envelope = SimulatedEnvelope((BUS_SECRET,), boot_id)
        responders = ResponderPool(clock)
        self.bus = variant.bus(
            process,
            self.lines[0],
            self.lines[1],
            envelope,
            on_subscribed=self._on_subscribed,
        )
        requester = Requester(
            self.bus.send,
            envelope,
            responders,
            clock,
            loop=loop,
            bus_ok=lambda: not self.bus.trouble,
        )
        self.beat = variant.beat(clock, lease_seconds=oracle.lease_seconds)
        self.beat.on_change = lambda change: oracle.heard(self, change)
        self.beat.lost_since = oracle.lost_since
        self.beat.world_now = lambda: world.now
        self.beater = variant.beater(
            replica=self.beat,
            presence=self.presence,
            refusals=refusals,
            requester=requester,
            connections=self.connections,
            metrics=_METRICS,
            clock=clock,
            beat_seconds=BEAT_SECONDS,
            on_presence=lambda _version: None,
        )
        events = EventHandler(responders=responders, heartbeat=self.beater, metrics=_METRICS)
        self.bus.subscribe(inbox_channel(boot_id), requester.deliver)
        self.bus.subscribe(EVENTS, events.on_message)
        self.approvals = variant.approvals(requester, self.beat, self.beater, clock)
        self.approvals.oracle = oracle
        self.approvals.count = self.beat.count = process.count
        memory = MemoryBudget(clock, limit_bytes=_MEMORY_LIMIT_BYTES)
        loop_budget = LoopBudget(lambda run: asyncio.get_running_loop().call_soon(run))
        self._host = SessionContext(
            identity=ReplicaIdentity(boot_id, "0", ""),
            auth=_RULES,
            approvals=self.approvals,
            connections=self.connections,
            dispatcher=Dispatcher(clock),
            forwarder=Forwarder(self.approvals, self.connections, _METRICS),
            metrics=_METRICS,
            clock=clock,
            refusals=refusals,
            memory=memory,
            loop_budget=loop_budget,
            setup=SetupClient(boot_id, self.approvals),
        )
        limiter = SocketLimiter(
            clock, limit=1, limit_per_address=1, trusted_proxies=(), count=lambda _why: None
        )
        self._sweeper = Sweeper(
            limiter,
            self.connections,
            self.beat,
            _METRICS,
            clock,
            memory=memory,
            loop_budget=loop_budget,
        )
        process.receive(self._start)

    @property
    def name(self) -> str:
        """Its name in the story."""
        return self.process.name

    def accept(self, socket: SimulatedSocket) -> None:
        """Accept a client, as `Sockets` does with an upgrade; within the process."""
        connection = self.connections.open(cast("Any", socket.transport), socket.address)
        peer = RequestInfo(address=socket.address, direct_loopback=False, host="", origin=None)
        number = f"{self.process.boot_id}:{connection.number}"
        handshake = Handshake(number, socket.nonce, peer, _RULES)
        socket.transport.connection = connection
        socket.visit = SessionHandler(self._host, connection, handshake, peer)
        socket.visit.send_challenge(b"")

    def _start(self) -> None:
        self.bus.start()
        self.process.start(self._sweeper.run(), "upkeep")
        self.process.start(self.beater.run(), "beater")

    def _on_subscribed(self) -> None:
        self._world.story.tell(self.name, "is subscribed")
        self.beater.sync_now()
