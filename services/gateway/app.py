"""The composition root of the gateway: the only module that wires concrete classes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from services.gateway import log_events
from services.gateway.approval.client import BusApprovalClient
from services.gateway.approval.event_handler import EventHandler
from services.gateway.approval.heartbeat import Heartbeat
from services.gateway.connections.hub import Hub
from services.gateway.connections.sweeper import Sweeper
from services.gateway.dashboard.handler import Dashboard
from services.gateway.handshake.outcome import AuthConfig
from services.gateway.http.join import JoinView
from services.gateway.http.limits import place_limits, socket_limiter
from services.gateway.http.pipe_door import PipeDoor
from services.gateway.http.readiness import readiness_of
from services.gateway.http.routes import Views, add_routes, health_requests
from services.gateway.http.upgrade import Upgrader
from services.gateway.methods.dispatcher import Dispatcher
from services.gateway.methods.forwarder import Forwarder
from services.gateway.methods.presence_feed import PresenceFeed
from services.gateway.methods.setup_client import SetupClient
from services.gateway.metrics import Metrics
from services.gateway.relay.http.bearers import Bearers
from services.gateway.relay.http.body import PAUSE_SECONDS
from services.gateway.relay.http.handler import RelayHttp
from services.gateway.relay.relay import Relay
from services.gateway.relay.upstream.examiner import Examiner
from services.gateway.relay.upstream.pairing import UpstreamPairing
from services.gateway.relay.upstream.status import Status
from services.gateway.relay.upstream.upstream import Upstream, UpstreamAddress
from services.gateway.replication.presence import Presence
from services.gateway.replication.recent_refusals import RecentRefusals
from services.gateway.replication.replica import Replica
from services.gateway.session.context import ReplicaIdentity, SessionContext
from services.gateway.settings import MEBIBYTE, web_origin
from services.gateway.websocket.memory import MemoryBudget
from shared.bus.channels import EVENTS, inbox_channel
from shared.bus.envelope import Envelope
from shared.bus.redis_bus import RedisBus
from shared.observability.metrics import BusCounts
from shared.observability.ops import OpsViews
from shared.redis.access import RedisAccess
from shared.rpc.question_window import QuestionWindow
from shared.rpc.requester import Requester
from shared.rpc.responder_pool import ResponderPool
from shared.secret_digests import SecretDigests
from shared.server.http_protocol import busy_response
from shared.server.loop_budget import Lane, LoopBudget
from shared.server.plain_requests import PlainRequests
from shared.settings.environment import path_of
from shared.version import VERSION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.gateway.http.routes import View
    from services.gateway.settings import Settings
    from shared.clock import Clock
    from shared.server.socket_limiter import SocketLimiter

OTHER_REDIS = "approval is seen but cannot be reached: it uses another Redis than this gateway"


@dataclass(frozen=True, slots=True)
class Gateway:
    """The assembled gateway: its two applications and what the process needs to run them."""

    app: web.Application
    ops: OpsViews
    limiter: SocketLimiter
    plain_requests: PlainRequests
    loop_budget: LoopBudget
    upgrader: Upgrader
    connections: Hub
    heartbeat: Heartbeat
    metrics: Metrics


def build_gateway(settings: Settings, *, boot_id: str, clock: Clock) -> Gateway:
    """Assemble the gateway; nothing runs before the application starts."""
    common = settings.common
    metrics = Metrics()
    presence, refusals = Presence(), RecentRefusals()
    memory = MemoryBudget(clock, limit_bytes=settings.memory_limit_mb * MEBIBYTE)
    budget, window = _admission_limits(metrics)
    replica = Replica(clock, lease_seconds=settings.lease_seconds)
    connections = Hub(
        clock,
        presence,
        leased=replica.is_leased,
        limits=place_limits(settings),
        hold_seconds=settings.wait_seconds,
    )

    counts = BusCounts(metrics.bus)

    def on_connected() -> None:
        heartbeat.sync_now()

    envelope = Envelope(tuple(common.bus_secrets), boot_id)
    responders = ResponderPool(clock, lambda: bus.renew(OTHER_REDIS))
    bus = RedisBus(
        RedisAccess(common.redis_url, clock=clock),
        envelope,
        on_subscribed=on_connected,
        on_publishing=on_connected,
        on_rejected=counts.rejected,
        clock=clock,
        log=structlog.get_logger("bus"),
        count=counts,
    )

    requester = Requester(
        bus.send, envelope, responders, clock, count=counts, bus_ok=lambda: bus.status()[0]
    )
    _watch(metrics, connections, replica, memory)
    relay = _relay(settings, clock, budget)
    heartbeat = Heartbeat(
        replica=replica,
        presence=presence,
        refusals=refusals,
        requester=requester,
        connections=connections,
        metrics=metrics,
        clock=clock,
        beat_seconds=settings.beat_seconds,
        on_presence=lambda version: presence_feed.on_version(version),  # noqa: PLW0108 (made below)
        relay=relay,
    )
    events = EventHandler(
        responders=responders,
        heartbeat=heartbeat,
        metrics=metrics,
        learn=None if relay is None else relay.learn,
    )
    bus.subscribe(inbox_channel(boot_id), requester.deliver)
    bus.subscribe(EVENTS, events.on_message)
    approvals = BusApprovalClient(requester, replica, heartbeat, clock, window)
    presence_feed = PresenceFeed(boot_id, approvals, connections, clock)
    context = SessionContext(
        identity=ReplicaIdentity(boot_id, VERSION, common.approval_public_url),
        auth=AuthConfig(
            settings.gateway_tokens,
            settings.allowed_origins,
            SecretDigests(common.bus_secrets),
            settings.trusts_local,
            common.approval_public_url,
            names_device_in_tokens=relay is not None,
            operators_need_protocol_4=relay is not None,
        ),
        approvals=approvals,
        connections=connections,
        dispatcher=Dispatcher(clock),
        forwarder=Forwarder(approvals, connections, metrics),
        metrics=metrics,
        clock=clock,
        refusals=refusals,
        memory=memory,
        loop_budget=budget,
        setup=SetupClient(boot_id, approvals),
    )
    relay_http, door = _serving_upstream(settings, relay, approvals, context, metrics)
    upgrader = Upgrader(
        context,
        trusted_proxies=common.trusted_proxies,
        metrics=metrics,
        relay=relay,
        door=door,
        unfiltered=health_requests(path_of(settings.public_url)),
    )

    limiter = socket_limiter(
        clock,
        connections,
        metrics,
        trusted_proxies=common.trusted_proxies,
    )
    sweeper = Sweeper(
        limiter,
        connections,
        replica,
        metrics,
        clock,
        memory=memory,
        loop_budget=budget,
        relay=relay,
    )
    ops = OpsViews(
        readiness=readiness_of(
            boot_id,
            bus=bus,
            responders=responders,
            replica=replica,
            upgrader=upgrader,
            connections=connections,
            upstream=None if relay is None else relay.status,
        ),
        registry=metrics.registry,
        clock=clock,
        loop_delay=sweeper,
        own_port=common.ops_port is not None,
    )

    async def run_bus(_app: web.Application) -> AsyncIterator[None]:
        await bus.start()
        yield
        await presence_feed.stop()
        await context.forwarder.stop()
        await context.setup.stop()
        await approvals.stop()
        requester.stop()
        await bus.stop()

    async def run_tasks(_app: web.Application) -> AsyncIterator[None]:
        tasks = (
            asyncio.create_task(sweeper.run(), name="sweeper"),
            asyncio.create_task(heartbeat.run(), name="heartbeat"),
        )
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    app = web.Application()
    app.cleanup_ctx.extend([run_bus, run_tasks])
    app.cleanup_ctx.extend([] if relay_http is None else relay_http.contexts)
    add_routes(
        app,
        Views(
            upgrader,
            ops,
            public_url=settings.public_url,
            approval_public_url=common.approval_public_url,
            own_ops_port=common.ops_port is not None,
            prefix=path_of(settings.public_url),
            join=JoinView(context.setup, upgrader.clients),
            elsewhere=_elsewhere(settings) if relay_http is None else relay_http.serve,
        ),
    )
    plain_requests = PlainRequests(
        clock,
        limits=common.plain_limits,
        count=metrics.plain_http.dropped,
        refusal=busy_response,
        prefix=path_of(settings.public_url),
    )
    metrics.plain_http.watch(plain_requests)
    _warn(settings)
    return Gateway(
        app,
        ops,
        limiter,
        plain_requests,
        budget,
        upgrader,
        connections,
        heartbeat,
        metrics,
    )


def _admission_limits(metrics: Metrics) -> tuple[LoopBudget, QuestionWindow]:
    """Return what limits the admissions in progress: loop time, and open questions."""
    budget = LoopBudget(lambda run: asyncio.get_running_loop().call_soon(run))
    window = QuestionWindow(
        partial(budget.hold, Lane.HANDSHAKES), partial(budget.release, Lane.HANDSHAKES)
    )
    metrics.watch_admissions(budget, window)
    return budget, window


def _warn(settings: Settings) -> None:
    """Log advice on settings."""
    for advice in settings.warnings:
        structlog.get_logger("gateway").warning(log_events.SETTING.name, advice=advice)


def _serving_upstream(
    settings: Settings,
    relay: Relay | None,
    approvals: BusApprovalClient,
    host: SessionContext,
    metrics: Metrics,
) -> tuple[RelayHttp | None, PipeDoor | None]:
    """Return what forwards HTTP and WebSockets, and register the upstream's health check."""
    if relay is None:
        return None, None
    _watch_relay(metrics, relay)
    host.connections.places.count_pipes(relay.pipes)
    trusted_proxies = settings.common.trusted_proxies
    prefix = path_of(settings.public_url)
    http = RelayHttp(
        relay,
        Bearers(approvals, host.auth, host.identity.boot_id),
        host.auth,
        metrics=metrics,
        trusted_proxies=trusted_proxies,
        prefix=prefix,
        pause_seconds=min(PAUSE_SECONDS, settings.common.plain_limits.stall_seconds),
    )
    return http, PipeDoor(host, relay, trusted_proxies=trusted_proxies, prefix=prefix)


def _elsewhere(settings: Settings) -> View | None:
    """Return what serves other paths than the gateway's own if there is no upstream."""
    if settings.control_ui_dir is None:
        return None
    dashboard = Dashboard(
        settings.control_ui_dir,
        version=VERSION,
        prefix=path_of(settings.public_url),
    )
    return dashboard.serve


def _relay(settings: Settings, clock: Clock, loop_budget: LoopBudget) -> Relay | None:
    if settings.upstream is None:
        return None
    address = UpstreamAddress.parse(settings.upstream.url)
    upstream = Upstream(address, settings.upstream.secrets, clock, loop_budget)
    pairing = UpstreamPairing(upstream, clock, VERSION)
    own_origin = web_origin(settings.public_url)
    origins = settings.allowed_origins | ({own_origin} if own_origin else set())
    status = Status(upstream, Examiner(upstream, VERSION, origins), clock)
    return Relay(upstream, pairing, status, clock, trusts_local=settings.trusts_local)


def _watch(metrics: Metrics, connections: Hub, replica: Replica, memory: MemoryBudget) -> None:
    """Register gauges that are computed on each scrape."""
    metrics.lease_left.set_function(lambda: max(0.0, replica.lease_left))
    metrics.changes_behind.set_function(lambda: replica.behind)
    metrics.watch_connections(lambda: connections.pending, lambda: connections.admitted)
    metrics.watch_displaced(connections.places.displaced)
    metrics.watch_held(connections.held)
    metrics.watch_memory(memory)
    metrics.watch_tasks()


def _watch_relay(metrics: Metrics, relay: Relay) -> None:
    """Compute the relay's gauges on each scrape."""
    metrics.upstream_clients.set_function(lambda: relay.joined)
    openings = metrics.upstream_openings
    openings.labels("opening").set_function(lambda: relay.openings.opening)
    openings.labels("waiting").set_function(lambda: relay.openings.waiting)
    counts = relay.counts
    metrics.upstream_frames.watch(lambda: counts.frames_up, "up")
    metrics.upstream_frames.watch(lambda: counts.frames_down, "down")
    metrics.upstream_bytes.watch(lambda: counts.bytes_up, "up")
    metrics.upstream_bytes.watch(lambda: counts.bytes_down, "down")
    metrics.upstream_approvals.watch(lambda: counts.approved, "approved")
    metrics.upstream_approvals.watch(lambda: counts.approvals_failed, "failed")
    metrics.upstream_outages.watch(lambda: counts.outages)
    metrics.upstream_up.set_function(lambda: 0 if relay.upstream.trouble else 1)
    metrics.upstream_problems.set_function(lambda: len(relay.status.problems))
    metrics.upstream_pipes.set_function(lambda: len(relay.pipes))
