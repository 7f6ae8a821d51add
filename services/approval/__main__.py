"""`python -m services.approval`: run one approval replica until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import structlog
from aiohttp import web

from services.approval import log_events
from services.approval.api.server import SOCKETS_LIMIT, Intake
from services.approval.app import build_approval
from services.approval.settings import Settings, read_settings
from shared.bus.channels import new_boot_id
from shared.clock import SystemClock
from shared.observability.logs import configure_logs
from shared.server.accept import SPARE_DESCRIPTORS, raise_descriptor_limit
from shared.server.http_protocol import serve_plainly
from shared.server.run import run_service, settle_memory
from shared.server.sockets import addresses, open_sockets

HANDLERS_SECONDS: Final = 2.5
"""Grace period for calls in progress at shutdown; longer than the timeout of Redis.

aiohttp waits for the same time again after cancelling them.
"""
STOP_SECONDS: Final = 9.0
"""Max. duration of a shutdown, whatever clients and Redis do."""


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set."""
    boot_id = new_boot_id()
    common = settings.common
    clock = SystemClock()
    configure_logs(
        service="approval", boot_id=boot_id, level=common.log_level, log_format=common.log_format
    )
    log = structlog.get_logger("approval")
    descriptors = raise_descriptor_limit(SOCKETS_LIMIT + SPARE_DESCRIPTORS)
    listeners = open_sockets(common.hosts, common.port)
    approval = build_approval(settings, boot_id=boot_id, clock=clock)
    runner = web.AppRunner(approval.app, access_log=None, shutdown_timeout=HANDLERS_SECONDS)
    ops = web.AppRunner(approval.ops_app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    await ops.setup()
    ops_servers: list[asyncio.Server] = []
    server = runner.server
    if server is None:
        message = "the runner has no server"
        raise RuntimeError(message)

    def exhausted() -> None:
        approval.metrics.descriptors_exhausted.inc()
        log.error(log_events.EXHAUSTED.name, descriptors=descriptors)

    intake = Intake(
        listeners,
        server,
        clock,
        approval.metrics,
        limit=max(1, min(SOCKETS_LIMIT, descriptors - SPARE_DESCRIPTORS)),
        trusted_proxies=common.trusted_proxies,
        on_exhausted=exhausted,
        plain_requests=approval.plain_requests,
    )
    try:
        if common.ops_port is not None:
            ops_servers = await serve_plainly(ops, open_sockets(common.hosts, common.ops_port))
        settle_memory()
        intake.start()
        log.info(log_events.STARTED.name, listening=addresses(listeners))
        await stop.wait()
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await approval.leave()
                intake.stop()
                await runner.cleanup()
                for ops_server in ops_servers:
                    ops_server.close()
                await ops.cleanup()
        log.info(log_events.STOPPED.name)


if __name__ == "__main__":
    run_service("The approval service", read_settings, serve)
