"""Services whose wall clocks, and only those, are wrong."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from shared.device.client import DeviceClient
from shared.device.handshake import Challenge
from tools.support.actors import pair
from tools.support.processes.stack import Stack

if TYPE_CHECKING:
    from pathlib import Path

    from tools.support.processes.service import ServiceProcess

AHEAD_SECONDS: Final = (600.0, -600.0, 0.0)
NEAR_SECONDS: Final = 60.0


async def seconds_ahead(gateway: ServiceProcess) -> float:
    """Return how far a gateway's challenge is ahead of this machine's clock."""
    async with DeviceClient(gateway.ws_url, None) as client:
        challenge = await client.challenge()
    assert isinstance(challenge, Challenge)
    return challenge.ts / 1000 - time.time()


async def test_each_lives_in_a_time_of_its_own_and_all_work(tmp_path: Path) -> None:
    stack = Stack(tmp_path, approvals=1, gateways=len(AHEAD_SECONDS))
    for gateway, ahead in zip(stack.gateways, AHEAD_SECONDS, strict=True):
        gateway.clock_ahead_seconds = ahead
    with stack:
        for gateway, ahead in zip(stack.gateways, AHEAD_SECONDS, strict=True):
            assert abs(await seconds_ahead(gateway) - ahead) < NEAR_SECONDS
        device = await pair(stack)
        for gateway in stack.gateways:
            await device.connect_once(gateway)
