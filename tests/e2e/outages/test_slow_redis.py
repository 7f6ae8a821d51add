"""A slow Redis and many new devices: sessions stay open, and refused clients learn the reason."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest

from shared.device.client import DeviceClient
from shared.device.handshake import Refused
from shared.device.identity import DeviceKey
from shared.device.profile import CLI
from tools.support.actors import pair
from tools.support.proxies.faults import FaultProxy
from tools.support.waiting import until

if TYPE_CHECKING:
    from tests.conftest import StartStack

DELAY_SECONDS: Final = 0.1
"""Each way: the maximum latency to Redis in another region."""
NEWCOMERS: Final = 80
"""Concurrent new devices, each with a new key: far more than six parallel commits can handle."""
REQUESTS: Final = 160
"""The number of requests, which take several leases to write: one address has four of the write
slots, and a commit takes about a second.
"""
LEASE_SECONDS: Final = 5
"""Short, so that a lease that is not renewed ends within the test."""


@pytest.mark.timeout(150)
async def test_newcomers_do_not_end_the_lease(start_stack: StartStack) -> None:
    flood = {"PENDING_LIMIT": "5000", "PENDING_LIMIT_PER_ADDRESS": "5000"}
    stack = start_stack(
        approvals=1,
        gateways=1,
        approval_env=flood,
        gateway_env={
            "LEASE_SECONDS": str(LEASE_SECONDS),
            "GATEWAY_PREAUTH_LIMIT_PER_ADDRESS": "1000",
        },
    )
    (approval,), (gateway,) = stack.approvals, stack.gateways
    outcomes: Counter[str] = Counter()
    over = asyncio.Event()

    async def attempt() -> None:
        while not over.is_set():
            async with DeviceClient(
                gateway.ws_url, DeviceKey.generate(), CLI, token=stack.gateway_token
            ) as newcomer:
                received = await newcomer.connect()
                assert isinstance(received, Refused)
                outcomes[received.code] += 1

    async with FaultProxy(stack.redis.port) as relay:
        url = stack.redis.approval_url.replace(f":{stack.redis.port}/", f":{relay.port}/")
        await asyncio.to_thread(approval.restart, REDIS_URL=url)
        await gateway.until_ready()
        inside, _ = await (await pair(stack)).stay_connected(gateway)
        async with inside:
            relay.delay(DELAY_SECONDS)
            connecting = [asyncio.create_task(attempt()) for _ in range(NEWCOMERS)]
            await until(
                lambda: outcomes["NOT_PAIRED"] > REQUESTS or not inside.is_open,
                "their requests are written",
                seconds=100,
            )
            assert inside.is_open
            over.set()
            await asyncio.gather(*connecting)
    assert outcomes["UNAVAILABLE"], outcomes
    assert outcomes["NOT_PAIRED"], outcomes
