"""Limits on all sockets of this replica, WebSocket or plain HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.gateway.connections.places import CLOSING_ROOM, PlaceLimits
from shared.server.socket_limiter import SocketLimiter

if TYPE_CHECKING:
    from services.gateway.connections.hub import Hub
    from services.gateway.metrics import Metrics
    from services.gateway.settings import Settings
    from shared.clock import Clock
    from shared.settings.environment import Network

HTTP_ROOM: Final = 64
"""Sockets allowed beyond the connection limit, for health checks and pages.

They use the spare file descriptors.
"""
HTTP_ROOM_PER_ADDRESS: Final = 8
"""Sockets allowed per address beyond its limit, so that an excess request still gets a 503."""


def place_limits(settings: Settings) -> PlaceLimits:
    """Return the limits on WebSockets."""
    total = settings.connection_limit
    return PlaceLimits(
        total=total,
        per_address=settings.connection_limit_per_address or max(1, total // 2),
        per_device=settings.connection_limit_per_device,
        deviceless_per_address=settings.preauth_limit_per_address,
    )


def socket_limiter(
    clock: Clock,
    connections: Hub,
    metrics: Metrics,
    *,
    trusted_proxies: tuple[Network, ...],
) -> SocketLimiter:
    """Return the gateway's limiter, which counts pending sockets and WebSockets together."""
    limits = connections.places.limits
    return SocketLimiter(
        clock,
        limit=limits.total + CLOSING_ROOM + HTTP_ROOM,
        limit_per_address=limits.deviceless_per_address + HTTP_ROOM_PER_ADDRESS,
        trusted_proxies=trusted_proxies,
        count=lambda why: metrics.turned_away.labels(why).inc(),
        websockets=connections,
        unauthenticated=connections.places.deviceless,
    )
