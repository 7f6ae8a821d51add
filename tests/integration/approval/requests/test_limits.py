"""A flood of requests displaces its own; a full list makes room at the largest holder's expense."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from services.approval.registry.integrity import Integrity
from services.approval.storage.keys import HOLDERS, PENDING, address_key, within_key
from shared.rpc.messages import NeedsPairing, TooManyPending
from tests.integration.approval.replica import Replica, everything, replica
from tests.support.approval.devices import READ, Device

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from tests.integration.approval.operator import Operator
    from tests.support.clock import FakeClock
    from tools.support.processes.redis import RedisServer

FLOOD = "203.0.113.9"
VICTIM = "198.51.100.1"
PER_ADDRESS = 3
MOST = 6
TTL_MS = 3_600_000


@pytest.fixture
async def there(redis_server: RedisServer, clock: FakeClock) -> AsyncIterator[Replica]:
    async with _small(redis_server, clock) as server:
        yield server


@pytest.fixture
async def here(redis_server: RedisServer, clock: FakeClock) -> AsyncIterator[Replica]:
    async with _small(redis_server, clock) as server:
        yield server


def _small(
    redis_server: RedisServer, clock: FakeClock, per_address: int = PER_ADDRESS
) -> AbstractAsyncContextManager[Replica]:
    """Return a replica with room for few requests."""
    return replica(
        redis_server.approval_url,
        clock,
        admin_url=redis_server.admin_url,
        PENDING_LIMIT=str(MOST),
        PENDING_LIMIT_PER_ADDRESS=str(per_address),
    )


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


async def many(here: Replica, clock: FakeClock, *addresses: str) -> list[str]:
    """Send a request of a new device from each address, one per ms; returns the request ids."""
    return [id_ for address in addresses for id_ in await flood(here, clock, address, 1)]


class TestFullList:
    """Six requests fit, three of one address."""

    async def test_the_holder_with_the_most_gives_way_to_newcomers(
        self, here: Replica, operator: Operator, clock: FakeClock
    ) -> None:
        single = await many(here, clock, VICTIM)
        pairs = await many(here, clock, "192.0.2.1", "192.0.2.1")
        flooding = await many(here, clock, FLOOD, FLOOD, FLOOD)
        first, second, third = await many(here, clock, "192.0.2.11", "192.0.2.12", "192.0.2.13")
        held = set(await operator.pending_ids())
        assert held == {*single, pairs[1], flooding[2], first, second, third}
        assert isinstance(
            await here.answer(Device.new().asks(address="192.0.2.14")), TooManyPending
        ), "nobody holds two"
        assert set(await operator.pending_ids()) == held

    async def test_newcomers_are_accepted_when_twenty_networks_of_one_48_fill_the_list(
        self, here: Replica, operator: Operator, clock: FakeClock
    ) -> None:
        single = await many(here, clock, VICTIM)
        await many(here, clock, *(f"2001:db8:77:{number:x}::1" for number in range(20)))
        assert len(await operator.pending_ids()) == MOST
        newcomers = await many(here, clock, "192.0.2.11", "2001:db8:78::1", "192.0.2.12")
        assert {*single, *newcomers} < set(await operator.pending_ids())
        more = await many(here, clock, *(f"2001:db8:77:{number:x}::1" for number in range(20, 30)))
        pending = await operator.pending_ids()
        assert {*single, *newcomers, more[-1]} < set(pending), "the flood displaces its own"
        assert len(pending) == MOST

    async def test_within_a_48_its_largest_56_gives_way_and_in_it_the_largest_64(
        self, here: Replica, operator: Operator, clock: FakeClock
    ) -> None:
        neighbour = await many(here, clock, "2001:db8:77:100::1")
        flooding = await many(
            here,
            clock,
            *("2001:db8:77:200::1", "2001:db8:77:201::1", "2001:db8:77:201::2"),
            *("2001:db8:77:202::1", "2001:db8:77:203::1"),
        )
        newcomers = await many(here, clock, "192.0.2.11")
        assert set(await operator.pending_ids()) == {
            *neighbour,
            *newcomers,
            *(one for one in flooding if one != flooding[1]),
        }, "the oldest of the only /64 with two"
        newcomers += await many(here, clock, "192.0.2.12", "192.0.2.13")
        assert {*neighbour, *newcomers} < set(await operator.pending_ids())

    async def test_displacing_is_one_change_with_the_new_request(
        self, here: Replica, operator: Operator, clock: FakeClock
    ) -> None:
        """It is published, logged and answered to operators, and its record is gone."""
        old = Device.new()
        await here.request(old.asks(address=FLOOD))
        clock.advance(0.001)
        flooding = await many(here, clock, FLOOD, FLOOD)
        await many(here, clock, "192.0.2.1", "192.0.2.2", "192.0.2.3")
        published = len(here.published)
        (new,) = await many(here, clock, "192.0.2.4")
        displaced, requested = here.published[published:]
        assert (displaced.kind, displaced.device_id) == ("displaced", old.device_id)
        assert (requested.kind, requested.request_id) == ("requested", new)
        assert requested.change.number == displaced.change.number + 1
        assert requested.previous_tag == displaced.change.tag
        logged = await here.store.audit_log.newest(2)
        assert [(one.id, one.action) for one in logged] == [
            (displaced.change.number, "displaced"),
            (requested.change.number, "requested"),
        ]
        assert (logged[0].device_id, logged[0].address) == (old.device_id, FLOOD)
        assert (logged[0].role, logged[0].scopes) == ("operator", tuple(READ))
        reply = await operator.approve(displaced.request_id)
        assert reply.problem(409, "request-displaced") == {"requestId": displaced.request_id}
        _head, (held,) = await here.store.load([old.device_id])
        assert held.record is None
        (await operator.approve(flooding[0])).ok()

    async def test_a_paired_device_keeps_its_pairing_and_is_displaced_last(
        self, here: Replica, operator: Operator, redis_server: RedisServer, clock: FakeClock
    ) -> None:
        device = Device.new()
        await here.pair(device, address=FLOOD)
        before = (await here.store.load([device.device_id]))[1][0].record
        wider = await here.request(device.asks(("operator.admin",), address=FLOOD))
        others = await many(here, clock, FLOOD, FLOOD)
        newer = await many(here, clock, FLOOD, FLOOD)
        assert set(await operator.pending_ids()) == {wider.request_id, *newer}
        await many(here, clock, "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5")
        assert wider.request_id in await operator.pending_ids()
        held = (await here.store.load([device.device_id]))[1][0].record
        assert held is not None
        await here.admit(device.asks())
        assert others
        async with _small(redis_server, clock, per_address=1) as strict:
            await flood(strict, clock, FLOOD, 3)  # it is over its limit, and others go first
        held = (await here.store.load([device.device_id]))[1][0].record
        assert held == before, "only the request is gone"
        await here.admit(device.asks())

    async def test_many_newcomers_at_two_approvals_never_exceed_the_limit(
        self, here: Replica, there: Replica, operator: Operator, clock: FakeClock
    ) -> None:
        """Each displaces exactly one request, at once and with no attempt in vain."""
        flooding = await many(
            here, clock, *(f"2001:db8:77:{number:x}::1" for number in range(MOST))
        )
        published = len(here.published) + len(there.published)
        newcomers = await asyncio.gather(
            *(
                replica.request(Device.new().asks(address=f"192.0.2.{number}"))
                for number, replica in enumerate([here, there] * 2)
            )
        )
        pending = set(await operator.pending_ids())
        assert len(pending) == MOST
        assert {one.request_id for one in newcomers} < pending
        assert len(pending & set(flooding)) == MOST - len(newcomers)
        changes = [*here.published, *there.published]
        assert len(changes) - published == 2 * len(newcomers)
        displaced = [one.request_id for one in changes if one.kind == "displaced"]
        assert len(set(displaced)) == len(displaced) == len(newcomers)


async def look(here: Replica) -> None:
    """Do what every approval does each two seconds: check the indexes, and repair them."""
    await Integrity(here.store, here.ledger, here.metrics, ttl_ms=TTL_MS, ready=lambda: True).look()


class TestLostCounts:
    """The list is full with the requests of one /48 when counts are lost."""

    @pytest.fixture(autouse=True)
    async def full(self, here: Replica, clock: FakeClock) -> None:
        await many(here, clock, *(f"2001:db8:77:{number:x}::1" for number in range(MOST)))

    @pytest.mark.parametrize("damage", ["deleted", "another type"])
    @pytest.mark.parametrize("key", [HOLDERS, within_key("2001:db8:77::/48")])
    async def test_newcomers_are_accepted_again_after_a_check(
        self, here: Replica, operator: Operator, clock: FakeClock, key: str, damage: str
    ) -> None:
        await here.redis.delete(key)
        if damage == "another type":
            await here.redis.rpush(key, b"garbage")
        await here.answer(Device.new().asks(address="192.0.2.1"))
        await look(here)
        newcomers = await many(here, clock, "192.0.2.2", "192.0.2.3")
        pending = await operator.pending_ids()
        assert set(newcomers) < set(pending)
        assert len(pending) <= MOST
        assert not (await here.store.repairs.look()).incomplete_index

    async def test_counts_of_requests_that_are_gone_are_corrected(
        self, here: Replica, operator: Operator, clock: FakeClock
    ) -> None:
        """As after an approval of the release before, which does not count."""
        await here.redis.zadd(HOLDERS, {"192.0.2.9": 900, "2001:db8:99::/48": 800})
        await here.redis.zadd(address_key("192.0.2.9"), {"gone": 1, "gone too": 2})
        newcomers = await many(here, clock, "192.0.2.2", "192.0.2.3")
        assert set(newcomers) < set(await operator.pending_ids())
        assert await here.redis.zscore(HOLDERS, "192.0.2.9") == 1, "its other entry is still there"
        assert await here.redis.zscore(HOLDERS, "2001:db8:99::/48") is None
        assert await here.redis.zscore(HOLDERS, "2001:db8:77::/48") == MOST - 2

    async def test_a_listed_device_without_a_request_takes_up_no_room_after_its_time(
        self, here: Replica, clock: FakeClock
    ) -> None:
        await here.redis.zadd(PENDING, {"gone": 1})
        assert await here.expiry.end_void(10) == 0
        assert await here.redis.zscore(PENDING, "gone") is None
        assert await here.redis.zcard(PENDING) == MOST


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
