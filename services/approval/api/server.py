"""Accepts HTTP connections, limits their number and closes those that send no request."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from shared.server.accept import BulkAcceptor
from shared.server.http_protocol import TrackedRequestHandler, keepalive_seconds
from shared.server.socket_limiter import SocketLimiter

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from aiohttp import web

    from services.approval.metrics import Metrics
    from shared.clock import Clock
    from shared.server.plain_requests import PlainRequests
    from shared.settings.environment import Network

SOCKETS_LIMIT: Final = 1024
"""Max. connections of one replica."""
SOCKETS_LIMIT_PER_ADDRESS: Final = 128
"""Max. connections of one address, trusted proxies excepted."""
SWEEP_SECONDS: Final = 0.25
"""Interval of the search for connections that exceeded the deadline of their first request."""


class Intake:
    """Accepts connections and passes them to aiohttp."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        server: web.Server,
        clock: Clock,
        metrics: Metrics,
        *,
        limit: int,
        trusted_proxies: tuple[Network, ...],
        on_exhausted: Callable[[], None],
        plain_requests: PlainRequests | None = None,
    ) -> None:
        self._server = server
        self._plain_requests = plain_requests
        self._trusted_proxies = trusted_proxies
        self._limiter = SocketLimiter(
            clock,
            limit=limit,
            limit_per_address=SOCKETS_LIMIT_PER_ADDRESS,
            trusted_proxies=trusted_proxies,
            count=lambda why: metrics.turned_away.labels(why).inc(),
        )
        accept = partial(self._limiter.accept, self._handler)
        self._acceptor = BulkAcceptor(listeners, accept, on_exhausted)
        self._sweeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start accepting."""
        self._sweeping = asyncio.create_task(self._sweep(), name="sweep")
        self._acceptor.start()

    def stop(self) -> None:
        """Stop accepting, and close connections without a request."""
        self._acceptor.stop()
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._limiter.end_silent()

    def _handler(self, _peer: str, key: str) -> TrackedRequestHandler:
        protocol = TrackedRequestHandler(
            self._server,
            loop=asyncio.get_running_loop(),
            access_log=None,
            keepalive_timeout=keepalive_seconds(key),
        )
        protocol.take_place(self._limiter, protocol)
        if self._plain_requests is not None:
            protocol.schedule(self._plain_requests, key, self._trusted_proxies)
        return protocol

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._limiter.sweep()
