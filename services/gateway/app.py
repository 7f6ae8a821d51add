"""The composition root of the gateway: the only module that wires concrete classes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from services.gateway import log_events
from services.gateway.approval.client import BusApprovalClient
from services.gateway.approval.heartbeat import Heartbeat
from services.gateway.approval.inbox import Inbox
from services.gateway.connections.hub import Hub
from services.gateway.connections.sweeper import Sweeper
from services.gateway.dashboard.handler import Dashboard
from services.gateway.handshake.outcome import AuthConfig
from services.gateway.http.limits import connection_limiter
from services.gateway.http.readiness import readiness_of
from services.gateway.http.routes import Views, add_routes
from services.gateway.http.upgrader import Upgrader
from services.gateway.methods.dispatcher import Dispatcher
from services.gateway.methods.forwarder import Forwarder
from services.gateway.methods.presence_feed import PresenceFeed
from services.gateway.metrics import Metrics
from services.gateway.replication.presence import Presence
from services.gateway.replication.recent_refusals import RecentRefusals
from services.gateway.replication.replica import Replica
from services.gateway.session.context import ReplicaIdentity, SessionContext
from shared.bus.channels import NEWS, inbox_channel
from shared.bus.envelope import Envelope
from shared.bus.redis_bus import RedisBus
from shared.observability.metrics import BusCounts
from shared.observability.ops import OpsViews
from shared.rpc.requester import Requester
from shared.rpc.responder_pool import ResponderPool
from shared.secret_digests import SecretDigests
from shared.server.pending_sockets import PendingSockets
from shared.settings import path_of
from shared.version import VERSION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.gateway.settings import Settings
    from shared.bus.envelope import Opened
    from shared.clock import Clock
    from shared.server.connection_limiter import ConnectionLimiter

OTHER_REDIS = "approval is seen but cannot be reached: it uses another Redis than this gateway"


@dataclass(frozen=True, slots=True)
class Gateway:
    """The assembled gateway: its two applications and what the process needs to run them."""

    app: web.Application
    ops_app: web.Application
    pending_sockets: PendingSockets
    limiter: ConnectionLimiter
    upgrader: Upgrader
    connections: Hub
    heartbeat: Heartbeat
    metrics: Metrics


def build_gateway(settings: Settings, *, boot_id: str, clock: Clock) -> Gateway:
    """Assemble the gateway; nothing runs before the application starts."""
    common = settings.common
    metrics = Metrics()
    presence = Presence()
    refusals = RecentRefusals()
    replica = Replica(clock, lease_seconds=settings.lease_seconds)
    connections = Hub(
        clock,
        presence,
        leased=lambda: replica.leased,
        limit=settings.connection_limit,
        preauth_limit_per_address=settings.preauth_limit_per_address,
    )

    counts = BusCounts(metrics.bus)

    def on_message(channel: str, message: Opened) -> None:
        inbox.on_message(channel, message)

    def on_subscribed() -> None:
        heartbeat.sync_now()

    def on_presence(version: int) -> None:
        presence_feed.on_version(version)

    envelope = Envelope(tuple(common.bus_secrets), boot_id)
    responders = ResponderPool(clock, lambda: bus.renew(OTHER_REDIS))
    bus = RedisBus(
        common.redis_url,
        envelope,
        (inbox_channel(boot_id), NEWS),
        on_message=on_message,
        on_subscribed=on_subscribed,
        on_rejected=counts.rejected,
        clock=clock,
        log=structlog.get_logger("bus"),
        count=counts,
    )

    def bus_ok() -> bool:
        return bus.status()[0]

    requester = Requester(bus.publish, envelope, responders, clock, count=counts, bus_ok=bus_ok)
    _watch(metrics, connections, replica)
    heartbeat = Heartbeat(
        replica=replica,
        presence=presence,
        refusals=refusals,
        requester=requester,
        connections=connections,
        metrics=metrics,
        clock=clock,
        beat_seconds=settings.beat_seconds,
        on_presence=on_presence,
    )
    inbox = Inbox(requester=requester, responders=responders, heartbeat=heartbeat, metrics=metrics)
    approvals = BusApprovalClient(requester, replica, heartbeat)
    forwarder = Forwarder(approvals, connections, metrics)
    presence_feed = PresenceFeed(boot_id, approvals, connections, clock)
    context = SessionContext(
        identity=ReplicaIdentity(boot_id, VERSION, common.approval_public_url),
        auth=AuthConfig(
            settings.gateway_tokens,
            settings.allowed_origins,
            SecretDigests(common.bus_secrets),
            settings.trusts_local,
            common.approval_public_url,
        ),
        approvals=approvals,
        connections=connections,
        dispatcher=Dispatcher(clock),
        forwarder=forwarder,
        metrics=metrics,
        clock=clock,
        refusals=refusals,
    )
    upgrader = Upgrader(context, trusted_proxies=common.trusted_proxies, metrics=metrics)

    pending_sockets = PendingSockets(clock)
    sweeper = Sweeper(pending_sockets, connections, replica, metrics, clock)
    ops = OpsViews(
        readiness=readiness_of(
            boot_id,
            bus=bus,
            responders=responders,
            replica=replica,
            upgrader=upgrader,
            connections=connections,
        ),
        registry=metrics.registry,
        clock=clock,
        loop_delay=sweeper,
        own_port=common.ops_port is not None,
    )

    dashboard = (
        None
        if settings.control_ui_dir is None
        else Dashboard(
            settings.control_ui_dir,
            version=VERSION,
            trusted_proxies=common.trusted_proxies,
            prefix=path_of(settings.public_url),
        )
    )

    async def run_bus(_app: web.Application) -> AsyncIterator[None]:
        await bus.start()
        yield
        await presence_feed.stop()
        await forwarder.stop()
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
    add_routes(
        app,
        Views(
            upgrader,
            ops,
            public_url=settings.public_url,
            approval_public_url=common.approval_public_url,
            own_ops_port=common.ops_port is not None,
            prefix=path_of(settings.public_url),
            dashboard=dashboard,
        ),
    )
    for advice in settings.warnings:
        structlog.get_logger("gateway").warning(log_events.SETTING.name, advice=advice)
    return Gateway(
        app,
        ops.ops_app(),
        pending_sockets,
        connection_limiter(
            pending_sockets,
            connections,
            metrics,
            limit=settings.connection_limit,
            preauth_limit_per_address=settings.preauth_limit_per_address,
            trusted_proxies=common.trusted_proxies,
        ),
        upgrader,
        connections,
        heartbeat,
        metrics,
    )


def _watch(metrics: Metrics, connections: Hub, replica: Replica) -> None:
    """Register gauges that are computed on each scrape."""
    metrics.lease_left.set_function(lambda: max(0.0, replica.lease_left))
    metrics.changes_behind.set_function(lambda: replica.behind)
    metrics.connections.labels("waiting").set_function(lambda: connections.pending)
    metrics.connections.labels("admitted").set_function(lambda: connections.admitted)
    metrics.watch_tasks()
