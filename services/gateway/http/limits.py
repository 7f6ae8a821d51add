"""How many sockets of whatever kind this replica takes, beyond its limits of WebSockets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shared.server.connection_limiter import ConnectionLimiter

if TYPE_CHECKING:
    from services.gateway.connections.hub import Hub
    from services.gateway.metrics import Metrics
    from shared.server.pending_sockets import PendingSockets
    from shared.settings import Network

HTTP_ROOM: Final = 64
"""Sockets beyond the connection limit, for health checks and pages; of the spare descriptors."""
HTTP_ROOM_PER_ADDRESS: Final = 8
"""The same for one address beyond its limit; and who asks for too much can be told so."""


def connection_limiter(
    arrivals: PendingSockets,
    connections: Hub,
    metrics: Metrics,
    *,
    limit: int,
    preauth_limit_per_address: int,
    trusted_proxies: tuple[Network, ...],
) -> ConnectionLimiter:
    """Return the room of a gateway: arrivals and WebSockets count together."""
    return ConnectionLimiter(
        arrivals,
        limit=limit + HTTP_ROOM,
        limit_per_address=preauth_limit_per_address + HTTP_ROOM_PER_ADDRESS,
        trusted_proxies=trusted_proxies,
        count=lambda why: metrics.turned_away.labels(why).inc(),
        others=connections.__len__,
        others_of=connections.pending_of,
    )
