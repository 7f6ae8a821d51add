"""One address, or one network, floods with new devices: newcomers from elsewhere are accepted."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest

from shared.device.identity import DeviceKey
from shared.device.profile import CLI
from tests.e2e.callers import PAIRING
from tests.e2e.crowd import client_at, outcome_of, running
from tools.support.actors import Operator, pair
from tools.support.proxies.faults import FaultProxy
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack

FLOODING: Final = 28
"""Concurrent connections of the flood, below the limit of one address at a gateway."""
NEWCOMERS: Final = 32
AT_ONCE: Final = 4
DEADLINE_SECONDS: Final = 5.0
"""Time limit for the answer to a newcomer, on a loaded machine."""
HEARD_SHARE: Final = 0.95
DELAY_SECONDS: Final = 0.05
"""Delay in each direction to Redis, so that the writes of a flood take longer than newcomers may wait."""
PENDING_LIMIT: Final = 40
"""Room for all newcomers at once: a holder's only request is not displaced."""
PER_ADDRESS: Final = 5


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """One approval and one gateway, behind a proxy that names the client's address."""
    return start_stack(
        approvals=1,
        gateways=1,
        env={"TRUSTED_PROXIES": "127.0.0.1"},
        approval_env={
            "PENDING_LIMIT": str(PENDING_LIMIT),
            "PENDING_LIMIT_PER_ADDRESS": str(PER_ADDRESS),
        },
    )


async def ask(stack: Stack, address: str, key: DeviceKey | None = None) -> str:
    """Connect as a new device from an address; returns why it was refused."""
    return await outcome_of(client_at(stack, address, key or DeviceKey.generate()))


async def heard_in_time(stack: Stack, address: str) -> str:
    """Connect as a new device; returns why it was refused, or `late`."""
    began = time.monotonic()
    outcome = await ask(stack, address)
    return outcome if time.monotonic() - began <= DEADLINE_SECONDS else "late"


@asynccontextmanager
async def flood(stack: Stack, address: str) -> AsyncIterator[Counter[str]]:
    """Keep connecting with new devices from one address; yields the outcomes."""
    seen: Counter[str] = Counter()

    async def attempt() -> None:
        while True:
            seen[await ask(stack, address)] += 1

    async with running(attempt() for _ in range(FLOODING)):
        yield seen


async def test_a_network_that_fills_the_list_gives_way_to_newcomers(stack: Stack) -> None:
    async with Operator(stack, stack.approvals[0]) as operator:
        key = DeviceKey.generate()
        assert await ask(stack, "198.51.100.1", key) == "PAIRING_REQUIRED"
        (shown,) = [one for one in await operator.pending() if one["deviceId"] == key.device_id]
        networks = [f"2001:db8:77:{number:x}::1" for number in range(20)]
        for network in networks * PER_ADDRESS:
            assert await ask(stack, network) == "PAIRING_REQUIRED"
        assert len(await operator.pending()) == PENDING_LIMIT
        newcomer = DeviceKey.generate()
        assert await ask(stack, "2001:db8:78::1", newcomer) == "PAIRING_REQUIRED"
        for network in networks:
            await ask(stack, network)
        pending = await operator.pending()
        assert len(pending) == PENDING_LIMIT
        assert {key.device_id, newcomer.device_id} <= {one["deviceId"] for one in pending}
        (await operator.approve(shown["requestId"])).ok()


@pytest.mark.timeout(150)
async def test_newcomers_and_method_calls_are_served_while_one_address_floods(
    stack: Stack,
) -> None:
    """Writes are slow, and the flood alone would fill every slot for longer than anyone waits."""
    (approval,), (gateway,) = stack.approvals, stack.gateways
    device = await pair(stack, CLI.with_scopes(PAIRING))
    heard: Counter[str] = Counter()
    async with FaultProxy(stack.redis.port) as relay:
        url = stack.redis.approval_url.replace(f":{stack.redis.port}/", f":{relay.port}/")
        await asyncio.to_thread(approval.restart, REDIS_URL=url)
        try:
            await gateway.until_ready()
            inside, _ = await device.stay_connected(gateway)
            async with inside:
                relay.delay(DELAY_SECONDS)
                async with flood(stack, "203.0.113.9") as flooded:
                    await until(lambda: flooded.total() > 2 * FLOODING, "the flood is under way")
                    for number in range(0, NEWCOMERS, AT_ONCE):
                        addresses = [f"198.51.100.{number + one}" for one in range(AT_ONCE)]
                        heard.update(
                            await asyncio.gather(*(heard_in_time(stack, one) for one in addresses))
                        )
                        answer = await inside.call("device.pair.list")
                        assert answer.ok, answer
        finally:
            await asyncio.to_thread(approval.restart, REDIS_URL=stack.redis.approval_url)
            await gateway.until_ready()
    assert heard["PAIRING_REQUIRED"] >= HEARD_SHARE * NEWCOMERS, (heard, flooded)
