"""Broadcasts the presence list of all gateways to clients with the read scope.

Heartbeat answers carry a presence version. When it changes and this replica has listeners, the list
is fetched from approval and broadcast, at a rate that keeps the cost small.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Final

import structlog

from shared.bus.errors import Unavailable
from shared.protocol.events import PRESENCE, Broadcast
from shared.protocol.limits import PROTOCOLS
from shared.protocol.scopes import READ
from shared.rpc.messages import Call, CallerInfo, Result

if TYPE_CHECKING:
    from services.gateway.approval.client import ApprovalClient
    from services.gateway.connections.hub import Hub
    from shared.clock import Clock

MIN_INTERVAL_SECONDS: Final = 1.0
"""The minimum interval between two broadcasts."""
BYTES_PER_SECOND: Final = 1_000_000
"""The target rate over all listeners: longer lists and more listeners mean fewer broadcasts."""
MAX_FETCH_SHARE: Final = 0.05
"""The fraction of time that fetching lists may take."""


class PresenceFeed:
    """Watches the presence version, and broadcasts each new list."""

    def __init__(
        self, boot_id: str, approvals: ApprovalClient, connections: Hub, clock: Clock
    ) -> None:
        self._boot_id = boot_id
        self._approvals = approvals
        self._connections = connections
        self._clock = clock
        self._broadcast_version = 0
        self._not_before = 0.0
        self._fetched = 0
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("gateway")

    def on_version(self, version: int) -> None:
        """Handle the presence version from a heartbeat answer."""
        if version == self._broadcast_version or self._task is not None:
            return
        if not self._connections.audience(READ) or self._clock.monotonic() < self._not_before:
            return
        self._task = asyncio.get_running_loop().create_task(self._broadcast(version))
        self._task.add_done_callback(self._on_done)

    async def stop(self) -> None:
        """Cancel a fetch in progress."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _broadcast(self, version: int) -> None:
        began = self._clock.monotonic()
        self._fetched += 1
        try:
            outcome = await self._approvals.call(
                Call(
                    call_id=f"{self._boot_id}:presence/{self._fetched}",
                    method="system-presence",
                    params={},
                    caller=CallerInfo("gateway", f"gateway {self._boot_id}", "operator", [READ]),
                    protocol=PROTOCOLS[0],
                    not_after_ms=0,
                )
            )
        except Unavailable:
            return
        if not isinstance(outcome, Result):
            return
        entries = zlib.decompress(outcome.payload) if outcome.packed else outcome.payload
        payload = b'{"presence":%s}' % entries
        self._broadcast_version = version
        now = self._clock.monotonic()
        sent_bytes = len(payload) * self._connections.audience(READ)
        self._not_before = now + max(
            MIN_INTERVAL_SECONDS, sent_bytes / BYTES_PER_SECOND, (now - began) / MAX_FETCH_SHARE
        )
        self._connections.broadcast(Broadcast(PRESENCE, payload, READ, presence_version=version))

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and task.exception() is not None:
            self._log.error("presence failed", exc_info=task.exception())
