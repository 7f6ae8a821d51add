"""Readiness checks of the gateway's dependencies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.observability.health import Health, Readiness

if TYPE_CHECKING:
    from services.gateway.connections.hub import Hub
    from services.gateway.http.upgrade import Upgrader
    from services.gateway.relay.upstream.status import Status
    from services.gateway.replication.replica import Replica
    from shared.bus.redis_bus import RedisBus
    from shared.rpc.responder_pool import ResponderPool


def readiness_of(
    boot_id: str,
    *,
    bus: RedisBus,
    responders: ResponderPool,
    replica: Replica,
    upgrader: Upgrader,
    connections: Hub,
    upstream: Status | None = None,
) -> Readiness:
    """Return the readiness checks that `/readyz` reports."""

    def approval() -> Health:
        live = len(responders.live())
        if live:
            return Health(ok=True, reason=f"{live} live")
        return Health(ok=False, reason="no approval replica was seen in the last 3 s")

    def lease() -> Health:
        if replica.leased:
            return Health(ok=True, reason="heartbeats are answered")
        return Health(ok=False, reason="no heartbeat was answered within the lease")

    def process() -> Health:
        if connections.draining:
            return Health(ok=False, reason="this replica is draining")
        return Health(ok=True, reason="accepting connections")

    return Readiness(
        boot_id,
        {
            "redis": bus.health,
            "approval": approval,
            "lease": lease,
            "process": process,
            "proxies": upgrader.clients.health,
            **({} if upstream is None else {"upstream": upstream.health}),
        },
    )
