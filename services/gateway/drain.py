"""Graceful shutdown: broadcasts it, closes connections gradually and notifies approval."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from services.gateway.connections.deadlines import SWEEP_SECONDS
from shared.protocol.limits import CLOSING_SECONDS

if TYPE_CHECKING:
    from services.gateway.approval.heartbeat import Heartbeat
    from services.gateway.connections.hub import Hub

WITHDRAW_SECONDS: Final = 1.0
"""How long the message to approval that this gateway is leaving may take."""


async def drain(connections: Hub, heartbeat: Heartbeat, drain_seconds: float) -> None:
    """Close all connections within about `drain_seconds`, then notify approval.

    Close frames leave time for the replies; the sweep aborts peers that do not reply in time.
    """
    now = asyncio.get_running_loop().time
    last_close = max(0.0, drain_seconds - CLOSING_SECONDS - SWEEP_SECONDS)
    deadline = now() + last_close + CLOSING_SECONDS + 2 * SWEEP_SECONDS
    connections.drain(connections.now + last_close)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(deadline):
            await connections.empty()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WITHDRAW_SECONDS):
            await heartbeat.withdraw()
