"""Limits on all sockets of this replica, WebSocket or plain HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shared.server.socket_limiter import SocketLimiter

if TYPE_CHECKING:
    from services.gateway.connections.hub import Hub
    from services.gateway.metrics import Metrics
    from shared.clock import Clock
    from shared.settings.environment import Network

HTTP_ROOM: Final = 64
"""Sockets allowed beyond the connection limit, for health checks and pages.

They use the spare file descriptors.
"""
HTTP_ROOM_PER_ADDRESS: Final = 8
"""Sockets allowed per address beyond its limit, so that an excess request still gets a 503."""


def socket_limiter(
    clock: Clock,
    connections: Hub,
    metrics: Metrics,
    *,
    limit: int,
    preauth_limit_per_address: int,
    trusted_proxies: tuple[Network, ...],
) -> SocketLimiter:
    """Return the gateway's limiter, which counts pending sockets and WebSockets together."""
    return SocketLimiter(
        clock,
        limit=limit + HTTP_ROOM,
        limit_per_address=preauth_limit_per_address + HTTP_ROOM_PER_ADDRESS,
        trusted_proxies=trusted_proxies,
        count=lambda why: metrics.turned_away.labels(why).inc(),
        websockets=connections.all,
        unauthenticated=connections.pending_by_address,
    )
