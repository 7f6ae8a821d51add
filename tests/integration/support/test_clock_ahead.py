"""A service whose wall clock is wrong, and nothing else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import pytest

from shared.device.client import DeviceClient
from shared.device.handshake import Challenge
from tests.support.stack import Stack

if TYPE_CHECKING:
    from pathlib import Path

AHEAD_SECONDS: Final = 600.0
NEAR_SECONDS: Final = 60.0


async def seconds_ahead(stack: Stack) -> float:
    """Return what the gateway's challenge says, compared with the time here."""
    async with DeviceClient(stack.gateways[0].ws_url, None) as client:
        challenge = await client.challenge()
    assert isinstance(challenge, Challenge)
    return challenge.ts / 1000 - time.time()


@pytest.mark.parametrize("ahead", [AHEAD_SECONDS, -AHEAD_SECONDS])
async def test_a_gateway_lives_in_another_time_until_it_is_set_right(
    tmp_path: Path, ahead: float
) -> None:
    with Stack(tmp_path, gateways=1) as stack:
        (gateway,) = stack.gateways
        assert abs(await seconds_ahead(stack)) < NEAR_SECONDS
        gateway.clock_ahead_seconds = ahead
        gateway.restart()
        assert abs(await seconds_ahead(stack) - ahead) < NEAR_SECONDS
        gateway.clock_ahead_seconds = 0.0
        gateway.restart()
        assert abs(await seconds_ahead(stack)) < NEAR_SECONDS
