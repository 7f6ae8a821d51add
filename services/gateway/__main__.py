"""`python -m services.gateway`: run one gateway until it receives a stop signal."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import Final

import structlog
from aiohttp import web

from services.gateway import log_events
from services.gateway.app import build_gateway
from services.gateway.drain import drain
from services.gateway.http.overload_health import OverloadHealth
from services.gateway.http.routes import health_requests
from services.gateway.http.upgrade import UpgradeProtocol
from services.gateway.settings import Settings, read_settings
from shared.bus.channels import new_boot_id
from shared.clock import SystemClock
from shared.observability.logs import configure_logs
from shared.server.accept import SPARE_DESCRIPTORS, BulkAcceptor, raise_descriptor_limit
from shared.server.http_protocol import TrackedRequestHandler, keepalive_seconds, serve_plainly
from shared.server.run import run_service, settle_memory
from shared.server.sockets import addresses, open_sockets
from shared.settings.environment import path_of

RELAYED_DESCRIPTORS: Final = 2
"""Descriptors of a relayed connection: the client's socket and the one to the upstream."""
HANDLERS_SECONDS: Final = 2.0
"""How long HTTP handlers may run after all sockets are closed."""


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set."""
    boot_id = new_boot_id()
    common = settings.common
    configure_logs(
        service="gateway", boot_id=boot_id, level=common.log_level, log_format=common.log_format
    )
    log = structlog.get_logger("gateway")
    each = RELAYED_DESCRIPTORS if settings.upstream else 1
    descriptors = raise_descriptor_limit(settings.connection_limit * each + SPARE_DESCRIPTORS)
    limit = max(1, (descriptors - SPARE_DESCRIPTORS) // each)
    if limit < settings.connection_limit:
        log.warning(
            log_events.SETTING.name,
            advice=f"GATEWAY_CONNECTION_LIMIT={settings.connection_limit} is lowered to {limit}: "
            f"this process may open {descriptors} file descriptors (`ulimit -n`)",
        )
        settings = replace(settings, connection_limit=limit)
    listeners = open_sockets(common.hosts, common.port, reuse_port=settings.reuse_port)
    gateway = build_gateway(settings, boot_id=boot_id, clock=SystemClock())
    loop = asyncio.get_running_loop()
    runner = web.AppRunner(
        gateway.app,
        access_log=None,
        shutdown_timeout=HANDLERS_SECONDS,
        # When a client leaves, its request to the upstream must end as well.
        handler_cancellation=True,
    )
    await runner.setup()
    server = runner.server
    if server is None:
        message = "the runner has no server"
        raise RuntimeError(message)

    def make_handler(key: str) -> TrackedRequestHandler:
        handler = TrackedRequestHandler(
            server,
            loop=loop,
            access_log=None,
            tcp_keepalive=False,
            keepalive_timeout=keepalive_seconds(key),
        )
        handler.schedule(gateway.plain_requests, key, common.trusted_proxies)
        return handler

    make_protocol = partial(
        UpgradeProtocol,
        limiter=gateway.limiter,
        upgrader=gateway.upgrader,
        make_handler=make_handler,
    )

    def on_exhausted() -> None:
        gateway.metrics.descriptors_exhausted.inc()
        log.error(log_events.EXHAUSTED.name, descriptors=descriptors)

    prefix = path_of(settings.public_url)
    accept = partial(gateway.limiter.accept, make_protocol)
    acceptor = BulkAcceptor(
        listeners,
        accept,
        on_exhausted,
        upgrades=gateway.loop_budget.upgrades,
        on_turned_away=gateway.metrics.turned_away.labels("accept").inc,
        always=health_requests(prefix),
        answer=OverloadHealth(gateway.ops, prefix).answer,
    )
    gateway.metrics.filtered.watch(lambda: acceptor.filtered_seconds)
    ops = web.AppRunner(gateway.ops.ops_app(), access_log=None)
    await ops.setup()
    ops_servers: list[asyncio.Server] = []
    try:
        if common.ops_port is not None:
            ops_servers = await serve_plainly(ops, open_sockets(common.hosts, common.ops_port))
        settle_memory()
        acceptor.start()
        log.info(log_events.STARTED.name, listening=addresses(listeners))
        await stop.wait()
    finally:
        acceptor.stop()
        gateway.limiter.end_silent()
        await drain(gateway.connections, gateway.heartbeat, settings.drain_seconds)
        await runner.cleanup()
        for ops_server in ops_servers:
            ops_server.close()
        await ops.cleanup()
        log.info(log_events.STOPPED.name)


if __name__ == "__main__":
    run_service("The gateway", read_settings, serve)
