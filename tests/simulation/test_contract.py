"""The store gives the same results over Redis and over the simulated Redis."""

from __future__ import annotations

import math
import time
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any, cast

import pytest
from msgspec.structs import replace

from services.approval.domain.records import AuditEntry, Metadata, Pairing, Pending, Record, Token
from services.approval.storage.changes.transaction import (
    Transaction,
    TransactionPlan,
    address_source,
)
from services.approval.storage.keys import (
    HOLDERS,
    PENDING,
    address_key,
    call_key,
    within_key,
)
from services.approval.storage.store import Store
from shared.addresses.holders import holders
from shared.redis.access import make_client
from shared.rpc.messages import Changed, HeartbeatQuestion, Position
from shared.rpc.reports import Present, RefusalReport, Seen
from shared.version import VERSION
from tests.integration.approval.storage.plans import run
from tests.simulation.engine.network import Line
from tests.simulation.engine.world import World
from tests.simulation.redis.client import RedisClient
from tests.simulation.redis.scripts import Scripts
from tests.simulation.redis.server import Server
from tests.support.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.approval.storage.heartbeats.refusals import Entry as RefusalEntry
    from tests.simulation.redis.commands import Ask
    from tools.support.processes.redis import RedisServer

METADATA = Metadata("cli", "cli", "linux")
TOKEN = Token("id", ("operator.read",), 5)


class AtOnce(RedisClient):
    """Runs calls without a simulated connection."""

    def __init__(self) -> None:
        world = World(0)
        self._server = Server(world, "A", Scripts())
        super().__init__(world.process("a test"), Line(world, "store", self._server))

    async def call(self, ask: Ask) -> Any:
        return ask(self._server)


def simulated() -> Store:
    return Store(cast("Any", AtOnce()), FakeClock())


@pytest.fixture
async def real(redis_server: RedisServer) -> AsyncIterator[Store]:
    client = make_client(redis_server.approval_url, max_connections=2, timeout_seconds=5)
    yield Store(client, FakeClock())
    await client.aclose()


@pytest.fixture(params=["redis", "memory"])
def store(request: pytest.FixtureRequest) -> Store:
    return request.getfixturevalue("real") if request.param == "redis" else simulated()


def plan(*device_ids: str, closes: list[str] | None = None) -> TransactionPlan:
    """Return a plan with a change for each device."""
    made = TransactionPlan()
    for device_id in device_ids:
        made.change(
            Changed(Position(), "", device_id, "renamed", 5, closes or []),
            AuditEntry("renamed", device_id, "somebody", 5),
        )
    return made


def pending(request_id: str, at_ms: int = 5) -> Pending:
    roles, scopes = ("operator",), ("operator.read",)
    return Pending(request_id, "not-paired", "operator", roles, scopes, METADATA, "a", at_ms, at_ms)


def record(device_id: str, *, paired_at: int = 0, request_id: str = "") -> Record:
    pairing = None
    if paired_at:
        roles, scopes = ("operator",), ("operator.read",)
        tokens = {"operator": TOKEN}
        pairing = Pairing(METADATA, "operator", roles, scopes, tokens, 5, paired_at)
    return Record(device_id, "key", pairing, pending(request_id) if request_id else None)


def beat(heartbeat_id: int, applied: Position, **more: Any) -> HeartbeatQuestion:
    given = {"booted": True, "builds_on": 0, "connections": 0, **more}
    return HeartbeatQuestion(heartbeat_id=heartbeat_id, applied=applied, **given)


async def put(store: Store, item: Record) -> Position:
    """Store a record, with its request if it has one."""
    _head, (held,) = await store.load([item.device_id])
    entry = Transaction("somebody", 5)
    entry.replace(held, item, item.device_id)
    if item.pending is not None:
        paired = item.pairing is not None
        entry.keep_request(item.device_id, item.pending, 1_000, is_paired=paired)
    entry.change("kept", item.device_id)
    return (await run(store, entry.plan)).change


class TestCommits:
    async def test_commits_are_numbered_and_tagged_alike(self, store: Store) -> None:
        assert (await run(store, plan())).outcome == "done"
        assert await store.load([]) == (Position(), [])
        plans = [plan("a"), plan("b", "c"), plan()]
        done = [await run(store, item) for item in plans]
        assert [item.change.number for item in done] == [1, 3, 3]
        assert [item.previous_tag for item in done] == ["", plans[0].tags[0], plans[1].tags[1]]
        assert (await store.load([]))[0] == Position(3, plans[1].tags[1])
        audit = await store.audit_log.read(1, 10)
        assert [(entry.id, entry.device_id) for entry in audit] == [(2, "b"), (3, "c")]

    async def test_versions_are_compared_alike(self, store: Store) -> None:
        await put(store, record("a", paired_at=7))
        _head, (held,) = await store.load(["a"])
        for version, outcome in (("", "conflict"), ("x" * 16, "conflict"), (held.version, "done")):
            attempt = plan("a")
            attempt.expect("latchkey:device:a", version)
            assert (await run(store, attempt)).outcome == outcome

    async def test_a_call_is_done_once(self, store: Store) -> None:
        first, second = plan("a"), plan("b")
        for item, answer in ((first, b"first\nanswer"), (second, b"second")):
            item.once(call_key("1"), answer)
        done = await run(store, first)
        await run(store, plan("c"))
        seen = await run(store, second)
        assert (seen.outcome, seen.change, seen.answer) == ("seen", done.change, b"first\nanswer")
        assert (await store.load([]))[0].number == 2

    async def test_late_commits_are_refused_alike(self, store: Store) -> None:
        await store.liveness.write_alive("x")
        for after_ms, outcome in ((-1_000, "late"), (60_000, "done")):
            attempt = plan("a")
            attempt.not_after_ms = store.now_ms() + after_ms
            assert (await run(store, attempt)).outcome == outcome

    async def test_limits_of_indexes_hold_alike(self, store: Store) -> None:
        outcomes = []
        for member in ("a", "b", "c", "a"):
            attempt = plan(member)
            attempt.limit("latchkey:index", 2, member)
            attempt.write("ZADD", "latchkey:index", 1, member)
            outcomes.append((await run(store, attempt)).outcome)
        assert outcomes == ["done", "done", "full", "done"]

    async def test_indexes_are_written_alike(self, store: Store) -> None:
        await put(store, record("a", paired_at=7))
        await put(store, record("b", paired_at=9, request_id="r"))
        await put(store, record("c", request_id="s"))
        assert [item.device_id for item in (await store.paired()).records] == ["b", "a"]
        assert {item.device_id for item in (await store.pending()).records} == {"b", "c"}
        assert await store.expired(2_000, 1) == ["b"]
        assert await store.expired(1_000, 5) == []
        note = await store.note("r")
        assert note is not None
        assert (note.device_id, note.state) == ("b", "pending")
        assert await store.note("t") is None


class TestHeartbeats:
    async def test_heartbeats_report_missed_changes_alike(self, store: Store) -> None:
        for device_id in ("a", "b", "c"):
            await run(store, plan(device_id, closes=["*"]))
        received = await store.heartbeats.answer("g", beat(1, Position()))
        assert not received.resync
        assert [change.device_id for change in received.changes] == ["a", "b", "c"]
        assert received.changes[1].previous_tag == received.changes[0].change.tag
        assert received.head == received.changes[2].change
        again = await store.heartbeats.answer("g", beat(2, received.changes[1].change))
        assert again.changes == received.changes[2:]

    async def test_heartbeats_demand_a_resync_alike(self, store: Store) -> None:
        assert not (await store.heartbeats.answer("g", beat(1, Position()))).resync
        head = (await run(store, plan("a", "b"))).change
        for place, applied, booted, resync in (
            (2, head, True, False),
            (3, head, False, True),
            (4, Position(2, "another"), True, True),
            (5, Position(3, "x"), True, True),
        ):
            received = await store.heartbeats.answer("g", beat(place, applied, booted=booted))
            assert (received.resync, received.changes) == (resync, [])

    async def test_presence_is_stored_alike(self, store: Store) -> None:
        def here(*numbers: int) -> list[Present]:
            return [Present(number, f"d{number % 2}", "operator", 5) for number in numbers]

        async def tell(
            heartbeat_id: int, builds_on: int, joined: list[Present], left: list[int]
        ) -> int:
            received = beat(heartbeat_id, Position(), builds_on=builds_on, joined=joined, left=left)
            return (await store.heartbeats.answer("g", received)).presence_at

        assert await tell(1, 0, here(1, 2, 3), []) == 1
        assert await tell(2, 1, here(4), [1]) == 2
        assert await tell(3, 1, [], [2]) == 2, "it builds on another"
        assert await tell(2, 2, [], [2]) == 2, "it is old"
        assert await standings(store) == [1, 1, 0]
        assert await tell(5, 2, here(3), [9, 4]) == 5
        assert await standings(store) == [1, 1, 0]
        assert await tell(6, 0, here(7), []) == 6
        assert await standings(store) == [0, 1, 0]

    async def test_release_and_uptime_are_stored_alike(self, store: Store) -> None:
        await store.heartbeats.answer("old", beat(1, Position()))
        await store.heartbeats.answer(
            "new", beat(1, Position(), version="9.8.7", uptime_s=5, left=[3])
        )
        await store.liveness.write_alive("approval", uptime_s=6)
        gateways = await store.presence.gateways(Position())
        assert {
            gateway.boot_id: (gateway.process.version, gateway.process.uptime_s)
            for gateway in gateways
        } == {
            "new": ("9.8.7", 5),
            "old": ("", 0),
        }
        (approval,) = await store.presence.approvals()
        assert (approval.process.version, approval.process.uptime_s) == (VERSION, 6)

    async def test_last_seen_times_are_stored_alike(self, store: Store) -> None:
        await put(store, record("d0", paired_at=7))
        seen = [
            Seen("d0", "node", "device-token", "192.0.2.1", 100),
            Seen("d1", "node", "x", "", 1),
        ]
        began = time.monotonic()
        await store.heartbeats.answer("g", beat(1, Position(), seen=seen))
        older = [Seen("d0", "operator", "device-token", "192.0.2.2", 5_000)]
        await store.heartbeats.answer("g", beat(2, Position(), seen=older))
        took_ms = math.ceil((time.monotonic() - began) * 1000)
        known, unknown = await store.presence.standings(["d0", "d1"])
        assert unknown.seen is None
        assert known.seen is not None
        assert known.seen.address == "192.0.2.1"
        apart = known.seen.used["node"] - known.seen.used["operator"]
        assert 4_900 - took_ms <= apart <= 4_900


async def standings(store: Store) -> list[int]:
    """Return the number of gateways to which each of three devices is connected."""
    found = await store.presence.standings(["d0", "d1", "d2"])
    return [len(item.replicas) for item in found]


async def test_a_thousand_random_steps_have_the_same_results(real: Store) -> None:
    """Both give the same results for random steps, except tags and times."""
    memory, draw = simulated(), Random(5)
    applied: dict[Store, list[Position]] = {real: [Position()], memory: [Position()]}
    for number in range(500):
        device_id = f"d{draw.randrange(4)}"
        item = record(device_id, paired_at=draw.choice((0, 7)), request_id=draw.choice(("", "r")))
        call, step, place = draw.choice(("", "1", "2")), draw.random(), draw.random()
        joined = [Present(draw.randrange(9), device_id, "node", 5)]
        left, base = [draw.randrange(9)], draw.choice((0, number - 1, number - 2))
        messages = []
        for store in (real, memory):
            if step < 0.5:
                known = applied[store]
                received = await store.heartbeats.answer(
                    "g",
                    beat(
                        number + 1,
                        known[int(place * len(known))],
                        builds_on=max(0, base),
                        joined=joined,
                        left=left,
                        seen=[Seen(device_id, "node", "device-token", "", 0)],
                    ),
                )
                known += [change.change for change in received.changes]
                changes = [(change.change.number, change.device_id) for change in received.changes]
                result: Any = (received.head.number, received.presence_at, received.resync, changes)
            else:
                _head, (held,) = await store.load([device_id])
                entry = Transaction("somebody", 5)
                entry.replace(held, item if step < 0.9 else None, device_id)
                entry.change("kept", device_id)
                if call:
                    entry.plan.once(call_key(call), b"x")
                committed = await run(store, entry.plan)
                result = (committed.outcome, committed.change.number, committed.answer)
            there = await store.presence.standings([device_id])
            messages.append((result, there[0].replicas, await store.paired()))
        assert messages[0] == messages[1]


ADDRESSES = (
    *("192.0.2.1", "192.0.2.2", "::1"),
    *("2001:db8:1::/64", "2001:db8:1:1::/64", "2001:db8:1:100::/64", "2001:db8:2::/64"),
)


async def test_requests_give_way_alike(real: Store) -> None:
    """Both choose the same request to give way, and hold the same indexes after each step."""
    memory, draw = simulated(), Random(11)
    outcomes: Counter[str] = Counter()
    for number in range(400):
        device_id = f"d{draw.randrange(40)}"
        address, ends = draw.choice(ADDRESSES), draw.random() < 0.1
        paired_at, stale = draw.choice((0, 0, 7)), draw.random() < 0.05
        total = 4 if number < 150 else 12
        steps = []
        for store in (real, memory):
            _head, (held,) = await store.load([device_id])
            before = held.record.pending if held.record else None
            entry = Transaction("somebody", number)
            if before is not None:
                entry.end_request(device_id, before, "superseded")
            new = replace(pending(f"r{number}", number), limit_key=address)
            item = replace(record(device_id, paired_at=paired_at), pending=None if ends else new)
            entry.replace(held, None if ends and not paired_at else item, device_id)
            if not ends:
                paired = bool(paired_at)
                entry.plan.make_room(device_id, address, number, total=total, per_address=4)
                entry.keep_request(device_id, new, 1_000, is_paired=paired)
            if stale:  # an entry without a request
                entry.plan.write("ZADD", address_key(address), 0, f"gone {number}")
            entry.change("kept", device_id, source=address_source(address))
            committed = await run(store, entry.plan)
            listed = [one async for one in _indexes(store)]
            audited = [(one.id, one.action, one.device_id) for one in await newest(store)]
            steps.append((committed.outcome, committed.displaced, listed, audited))
        assert steps[0] == steps[1], number
        outcomes[steps[0][0]] += 1
        outcomes["displaced"] += steps[0][1] is not None
    assert outcomes["done"] > outcomes["displaced"] > 50, outcomes
    assert outcomes["full"] > 5, outcomes


async def newest(store: Store) -> list[AuditEntry]:
    """Return the last entries of the audit log."""
    return await store.audit_log.newest(3)


async def _indexes(store: Store) -> AsyncIterator[list[tuple[bytes, float]]]:
    """Yield the indexes of pending requests."""
    networks = {network for address in ADDRESSES for network in holders(address)}
    for key in (PENDING, HOLDERS, *map(within_key, sorted(networks))):
        yield await store.client.zrange(key, 0, -1, withscores=True)
    for address in ADDRESSES:
        yield await store.client.zrange(address_key(address), 0, -1, withscores=True)


async def test_refusals_are_counted_alike(real: Store) -> None:
    """Both store the same for random reports, except times."""
    memory, draw = simulated(), Random(7)
    stores = (real, memory)
    for store in stores:
        await put(store, record("d0", paired_at=7))
        await put(store, record("d1", request_id="r"))
    for number in range(300):
        device_id, count = draw.choice(("d0", "d1", "", "d2")), draw.randrange(1, 9)
        reports = [
            RefusalReport(
                draw.choice(("x", "y")),
                undecided=False,
                device_id=device_id,
                proven=bool(device_id) and draw.random() < 0.5,
                address="10.0.1.1" if device_id == "d2" else f"10.0.0.{draw.randrange(60)}",
                number=number // 4,
                count=count,
                confirmed=draw.randrange(count),
                age_ms=draw.choice((0, 60_000, 90_000_000)),
                first_age_ms=draw.choice((60_000, 700_000)),
            )
            for _ in range(draw.randrange(1, 4))
        ]
        gateway = draw.choice("gh")
        for store in stores:
            await store.refusals.write(gateway, reports, 1_000_000_000 + 50 * number)
    stored = [await store.refusals.recent(1_000) for store in stores]
    assert len(stored[0]) > 40
    of_d0 = [await store.refusals.of_device("d0", 9) for store in stores]
    assert len(of_d0[0]) == 2
    for real_one, in_memory in (stored, of_d0):
        assert sorted(map(counted, real_one)) == sorted(map(counted, in_memory))
    assert [await store.refusals.version() for store in stores] == [300, 300]


def counted(entry: RefusalEntry) -> tuple[Any, ...]:
    """Return the stored attempts without their times."""
    about = (entry.device, entry.proven, entry.reason, entry.address, entry.replica)
    return (*about, entry.count, entry.number, entry.told, round((entry.at - entry.first) / 10_000))
