"""The recurring sweep over all connections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from services.gateway import log_events
from services.gateway.connections.deadlines import SWEEP_SECONDS
from services.gateway.connections.held import HoldEnd
from services.gateway.connections.hub import LEASE_LOST_REASON
from services.gateway.replication.replica import CLOSING_SECONDS
from shared.protocol.closing import CloseCode

if TYPE_CHECKING:
    from services.gateway.connections.hub import Hub
    from services.gateway.metrics import Metrics
    from services.gateway.replication.relay_port import RelayPort
    from services.gateway.replication.replica import Replica
    from services.gateway.websocket.memory import MemoryBudget
    from shared.clock import Clock
    from shared.server.loop_budget import LoopBudget
    from shared.server.socket_limiter import SocketLimiter


class Sweeper:
    """Sweeps the connections four times a second, and measures the delay of the event loop."""

    def __init__(
        self,
        limiter: SocketLimiter,
        connections: Hub,
        replica: Replica,
        metrics: Metrics,
        clock: Clock,
        *,
        memory: MemoryBudget,
        loop_budget: LoopBudget,
        relay: RelayPort | None = None,
    ) -> None:
        self._limiter = limiter
        self._connections = connections
        self._replica = replica
        self._metrics = metrics
        self._clock = clock
        self._memory = memory
        self._loop_budget = loop_budget
        self._relay = relay
        self._log = structlog.get_logger("gateway")
        self.milliseconds = 0.0

    async def run(self) -> None:
        """Sweep until cancelled."""
        due = self._clock.monotonic() + SWEEP_SECONDS
        while True:
            await asyncio.sleep(max(0.0, due - self._clock.monotonic()))
            delay = max(0.0, self._clock.monotonic() - due)
            self.milliseconds = delay * 1000
            self._metrics.loop_delay.set(delay)
            try:
                self._close_before_lease_ends()
                self._connections.sweep()
                self._memory.sweep()
                self._limiter.sweep()
                self._loop_budget.sweep()
                if self._relay is not None:
                    self._relay.sweep()
            except Exception:  # noqa: BLE001 (one failure must not stop later sweeps)
                self._log.exception("sweep failed")
            due = max(due + SWEEP_SECONDS, self._clock.monotonic())

    def _close_before_lease_ends(self) -> None:
        """Close admitted connections before the lease ends, since revocations may be missed."""
        if self._replica.lease_left > CLOSING_SECONDS:
            return
        if self._relay is not None:
            self._relay.close_pipes()
        self._connections.held.end_all(HoldEnd.UNAVAILABLE)
        closed = self._connections.close_admitted(CloseCode.TRY_AGAIN, LEASE_LOST_REASON)
        if closed:
            self._log.error(log_events.LEASE_LOST.name, closed=closed)
