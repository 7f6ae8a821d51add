"""Replicas whose clocks disagree; Redis uses the machine's clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from shared.device.client import DeviceClient
from shared.device.handshake import Challenge
from tools.drills.fault import Fault, Promise
from tools.drills.stack.settings import MOMENT_SECONDS

if TYPE_CHECKING:
    from tools.drills.fault_context import FaultContext
    from tools.drills.stack.stack import DrillStack
    from tools.support.processes.service import ServiceProcess

TEN_MINUTES: Final = 600.0
AHEAD: Final = {
    "gateway-1": TEN_MINUTES,
    "gateway-2": -TEN_MINUTES,
    "approval-1": -TEN_MINUTES,
    "approval-2": TEN_MINUTES,
}
"""In seconds; gateway-3 is correct."""
NEAR_SECONDS: Final = 60.0


async def move_clocks(stack: DrillStack) -> None:
    """Restart the replicas with these clocks, and check the gateways' challenges."""
    await _restart_with(stack, AHEAD)
    for gateway in stack.stack.gateways:
        ahead = await _ahead(gateway)
        assert abs(ahead - AHEAD.get(gateway.name, 0.0)) < NEAR_SECONDS, (
            f"{gateway.name}'s clock is {ahead:.0f} s ahead"
        )


async def set_clocks(stack: DrillStack) -> None:
    """Restart the replicas with the correct time."""
    await _restart_with(stack, dict.fromkeys(AHEAD, 0.0))


async def go_on(context: FaultContext, _case: str) -> None:
    """Run the usual operations."""
    context.note("the clocks are ten minutes ahead, behind, and right")
    context.revoke()
    await context.last(2 * MOMENT_SECONDS)


async def _restart_with(stack: DrillStack, ahead: dict[str, float]) -> None:
    for name, seconds in ahead.items():
        service = stack.service(name)
        service.clock_ahead_seconds = seconds
        await stack.restart(service)


async def _ahead(gateway: ServiceProcess) -> float:
    """Return how many seconds a gateway's clock is ahead of ours, from its challenge."""
    async with DeviceClient(gateway.ws_url, None) as client:
        challenge = await client.challenge()
    assert isinstance(challenge, Challenge), challenge
    return challenge.ts / 1000 - time.time()


FAULTS: Final = (
    Fault(
        name="clocks ten minutes apart",
        do=go_on,
        promise=Promise(),
        before=move_clocks,
        after=set_clocks,
    ),
)
