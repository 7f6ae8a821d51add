"""A flood of requests displaces only its own, and memory stays flat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.rpc.messages import NeedsPairing, TooManyPending
from tests.integration.approval.replica import Replica, everything, replica
from tests.support.approval.devices import Device

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.approval.operator import Operator
    from tests.support.clock import FakeClock
    from tools.support.processes.redis import RedisServer

FLOOD = "203.0.113.9"
VICTIM = "198.51.100.1"
PER_ADDRESS = 3
MOST = 6


@pytest.fixture
async def here(redis_server: RedisServer, clock: FakeClock) -> AsyncIterator[Replica]:
    async with replica(
        redis_server.approval_url,
        clock,
        admin_url=redis_server.admin_url,
        PENDING_LIMIT=str(MOST),
        PENDING_LIMIT_PER_ADDRESS=str(PER_ADDRESS),
    ) as server:
        yield server


async def flood(here: Replica, clock: FakeClock, address: str, count: int) -> list[str]:
    """Send requests of new devices from one address, one per ms; returns the request ids."""
    ids = []
    for _ in range(count):
        ids.append((await here.request(Device.new().asks(address=address))).request_id)
        clock.advance(0.001)
    return ids


async def test_a_flood_displaces_the_oldest_request_of_its_own_address(
    here: Replica, operator: Operator, clock: FakeClock
) -> None:
    victim = await here.request(Device.new().asks(address=VICTIM))
    ids = await flood(here, clock, FLOOD, 10)
    assert await operator.pending_ids() == [*reversed(ids[-PER_ADDRESS:]), victim.request_id]
    reply = await operator.approve(ids[0])
    assert reply.problem(409, "request-displaced") == {"requestId": ids[0]}
    (await operator.approve(victim.request_id)).ok()


@pytest.mark.parametrize(
    "addresses",
    [("2001:db8::1", "2001:db8::ffff", "2001:db8:0:0:7::"), ("::ffff:203.0.113.9", FLOOD, FLOOD)],
)
async def test_addresses_of_one_network_count_as_one(
    here: Replica, operator: Operator, clock: FakeClock, addresses: tuple[str, ...]
) -> None:
    """One IPv6 network is one client."""
    for address in addresses * 2:
        await flood(here, clock, address, 1)
    assert len(await operator.pending_ids()) == PER_ADDRESS


async def test_a_displaced_device_gets_a_new_request(
    here: Replica, operator: Operator, clock: FakeClock
) -> None:
    device = Device.new()
    old = await here.request(device.asks(address=FLOOD))
    clock.advance(1)
    await flood(here, clock, FLOOD, PER_ADDRESS)
    new = await here.request(device.asks(address=FLOOD))
    assert new.request_id != old.request_id
    (await operator.approve(new.request_id)).ok()


async def test_when_the_list_is_full_new_devices_are_refused(
    here: Replica, operator: Operator, clock: FakeClock
) -> None:
    devices = [Device.new() for _ in range(MOST)]
    for number, device in enumerate(devices):
        await here.request(device.asks(address=f"192.0.2.{number}"))
    waiting = await operator.pending_ids()
    for _ in range(3):
        late = await here.answer(Device.new().asks(address="192.0.2.99"))
        assert isinstance(late, TooManyPending)
    assert sorted(await operator.pending_ids()) == sorted(waiting)
    clock.advance(60)
    again = await here.answer(devices[0].asks(address="192.0.2.0"))
    assert isinstance(again, NeedsPairing), "a device with a request may refresh it"
    wider = await here.request(devices[0].asks(("operator.admin",), address="192.0.2.0"))
    assert wider.request_id in await operator.pending_ids()
    other = await here.answer(Device.new().asks(address="192.0.2.1"))
    assert isinstance(other, NeedsPairing), "it replaces a request of its own address"
    assert len(await operator.pending_ids()) == MOST


async def test_a_paired_device_needs_no_capacity(
    here: Replica, operator: Operator, clock: FakeClock
) -> None:
    device = Device.new()
    await here.pair(device)
    for number in range(MOST):
        await flood(here, clock, f"192.0.2.{number}", 1)
    await here.admit(device.asks())
    assert isinstance(await here.answer(device.asks(("operator.admin",))), TooManyPending)


async def test_memory_stays_flat_during_a_flood(
    here: Replica, clock: FakeClock, redis_server: RedisServer
) -> None:
    """Only a note for each id (for a day) and an audit entry for each action are added."""
    await flood(here, clock, FLOOD, PER_ADDRESS)
    before = await everything(redis_server.admin_url)
    await flood(here, clock, FLOOD, 20)
    after = await everything(redis_server.admin_url)
    grown = {key.split(":")[1] for key in after.keys() - before.keys() if len(after[key]) > 0}
    assert grown <= {"device", "request", "call"}
    devices = [key for key in after if key.startswith("latchkey:device:")]
    assert len(devices) == PER_ADDRESS
    for key in after:
        if key.split(":")[1] in {"request", "call"}:
            assert 0 < int(await here.redis.pttl(key)) <= 2 * 86_400_000
