"""Serves requests in a thread with its own event loop, while a module of tests runs."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterator

BODY_LIMIT_BYTES: Final = 1 << 30
START_SECONDS: Final = 10.0
STOP_SECONDS: Final = 10.0


@contextmanager
def threaded_server(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    port: int = 0,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    tls: ssl.SSLContext | None = None,
) -> Iterator[int]:
    """Serve every path with this handler; yields the port."""
    loop = loop or asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> web.AppRunner:
        app = web.Application(client_max_size=BODY_LIMIT_BYTES)
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True, ssl_context=tls)
        await site.start()
        return runner

    runner = asyncio.run_coroutine_threadsafe(start(), loop).result(START_SECONDS)
    try:
        yield runner.addresses[0][1]
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(STOP_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(STOP_SECONDS)
        loop.close()
