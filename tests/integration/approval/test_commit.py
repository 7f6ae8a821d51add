"""commit.lua and the plans it carries out: all of it or nothing (design §5)."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import msgspec
import pytest

from services.approval.errors import StoreUnavailable
from services.approval.plan import CALLS_KEPT_MS, VERSION_CHARACTERS, AuditEntry, Plan
from services.approval.store import AUDIT, CHANGES, HEAD
from shared.messages import Change, Changed
from tests.integration.approval.replica import everything

if TYPE_CHECKING:
    from services.approval.store import Committed, Store
    from tests.integration.approval.replica import Replica
    from tests.support.clock import FakeClock
    from tests.support.redis import RedisServer

RECORD, OTHER, INDEX, CALL = (f"latchkey:{name}" for name in ("a", "b", "index", "call"))


def plan(changes: int = 1) -> Plan:
    """Return a plan that makes some changes and nothing else."""
    made = Plan((HEAD, CHANGES, AUDIT))
    for number in range(changes):
        made.change(
            Changed(Change(), "", f"device {number}", "renamed", 5),
            AuditEntry("renamed", f"device {number}", "somebody", 5),
        )
    return made


@pytest.fixture
def store(here: Replica) -> Store:
    return here.store


async def version(here: Replica, key: str) -> str:
    """Return the version of what is kept under a key."""
    return ((await here.redis.get(key)) or b"")[:VERSION_CHARACTERS].decode()


async def refused(
    store: Store, attempt: Plan, outcome: str, redis_server: RedisServer
) -> Committed:
    """Commit what must end this way, and check that nothing at all was done."""
    before = await everything(redis_server.admin_url)
    committed = await store.commit(attempt)
    assert committed.outcome == outcome
    assert await everything(redis_server.admin_url) == before
    return committed


class TestNumbers:
    async def test_before_the_first(self, store: Store) -> None:
        assert await store.load([]) == (Change(), [])
        committed = await store.commit(plan(0))
        assert (committed.outcome, committed.change) == ("done", Change())

    async def test_they_rise_without_gaps_and_name_their_predecessor(
        self, here: Replica, store: Store
    ) -> None:
        plans = [plan(1), plan(3), plan(0), plan(2)]
        committed = [await store.commit(one) for one in plans]
        assert [one.change.number for one in committed] == [1, 4, 4, 6]
        assert [one.previous_tag for one in committed] == [
            "",
            *(one.change.tag for one in committed[:3]),
        ]
        log = await here.redis.xrange(CHANGES)
        tags = [fields[b"tag"].decode() for _, fields in log]
        assert tags == [tag for one in plans for tag in one.tags]
        assert len(set(tags)) == 6
        assert [fields[b"previous"].decode() for _, fields in log] == ["", *tags[:-1]]
        assert [entry_id for entry_id, _ in log] == [b"%d-0" % n for n in range(1, 7)]
        assert committed[-1].change == Change(6, tags[-1])
        assert (await store.load([]))[0] == Change(6, tags[-1])

    async def test_the_logs_hold_what_was_told_and_who_did_it(
        self, here: Replica, store: Store
    ) -> None:
        await store.commit(plan(2))
        log = await here.redis.xrange(CHANGES)
        told = [msgspec.msgpack.decode(fields[b"body"], type=Changed) for _, fields in log]
        assert [one.device_id for one in told] == ["device 0", "device 1"]
        entries = await store.audit(0, 10)
        assert [(one.id, one.device_id, one.actor) for one in entries] == [
            (1, "device 0", "somebody"),
            (2, "device 1", "somebody"),
        ]
        assert [one.id for one in await store.audit(1, 10)] == [2]
        assert [one.id for one in await store.audit(0, 1)] == [1]

    async def test_many_at_once(self, here: Replica, store: Store) -> None:
        await asyncio.gather(*(store.commit(plan(count % 3)) for count in range(60)))
        log = await here.redis.xrange(CHANGES)
        assert [entry_id for entry_id, _ in log] == [b"%d-0" % n for n in range(1, 61)]
        for (_, before), (_, after) in itertools.pairwise(log):
            assert after[b"previous"] == before[b"tag"]

    async def test_large_numbers_stay_whole(self, here: Replica, store: Store) -> None:
        last = 2**53 - 3
        await here.redis.set(HEAD, f"{last}:tag")
        committed = await store.commit(plan(2))
        assert committed.change.number == last + 2
        assert (await store.load([]))[0] == committed.change
        assert [one.id for one in await store.audit(last, 10)] == [last + 1, last + 2]

    async def test_the_logs_are_trimmed_and_keep_the_newest(
        self, here: Replica, store: Store
    ) -> None:
        for _ in range(4):
            attempt = plan(2)
            encoded, *blobs = attempt.arguments()
            shorter = msgspec.msgpack.encode(msgspec.msgpack.decode(encoded) | {"kept": (3, 5)})
            await here.redis.eval(store._commit.script, 3, *attempt.keys, shorter, *blobs)
        numbers = {
            key: [entry_id for entry_id, _ in await here.redis.xrange(key)]
            for key in (CHANGES, AUDIT)
        }
        assert numbers == {
            CHANGES: [b"%d-0" % n for n in (6, 7, 8)],
            AUDIT: [b"%d-0" % n for n in (4, 5, 6, 7, 8)],
        }


class TestExpects:
    async def test_a_record_as_it_was_read(self, here: Replica, store: Store) -> None:
        attempt = plan()
        attempt.expect(RECORD, "")
        attempt.put(RECORD, b"one")
        assert (await store.commit(attempt)).outcome == "done"
        first = await version(here, RECORD)
        attempt = plan()
        attempt.expect(RECORD, first)
        attempt.put(RECORD, b"two\x00\n")
        assert (await store.commit(attempt)).outcome == "done"
        assert await here.redis.get(RECORD) == (await version(here, RECORD)).encode() + b"two\x00\n"
        assert await version(here, RECORD) != first

    @pytest.mark.parametrize("expected", ["", "0" * VERSION_CHARACTERS])
    async def test_conflict(self, store: Store, redis_server: RedisServer, expected: str) -> None:
        attempt = plan()
        attempt.put(RECORD, b"one")
        head = (await store.commit(attempt)).change
        attempt = plan()
        attempt.expect(OTHER, "")
        attempt.expect(RECORD, expected)
        attempt.put(OTHER, b"x")
        attempt.once(CALL, b"answer")
        assert (await refused(store, attempt, "conflict", redis_server)).change == head

    async def test_conflict_with_what_is_gone(
        self, store: Store, redis_server: RedisServer
    ) -> None:
        attempt = plan()
        attempt.expect(RECORD, "0" * VERSION_CHARACTERS)
        attempt.put(RECORD, b"one")
        await refused(store, attempt, "conflict", redis_server)

    async def test_of_many_at_once_one_wins(self, here: Replica, store: Store) -> None:
        attempts = [plan() for _ in range(20)]
        for number, attempt in enumerate(attempts):
            attempt.expect(RECORD, "")
            attempt.put(RECORD, b"%d" % number)
        outcomes = [one.outcome for one in await asyncio.gather(*map(store.commit, attempts))]
        assert sorted(outcomes) == ["conflict"] * 19 + ["done"]
        assert (await store.load([]))[0].number == 1
        kept = (await here.redis.get(RECORD))[VERSION_CHARACTERS:]
        assert outcomes[int(kept)] == "done"


class TestCalls:
    @pytest.mark.parametrize("answer", [b"", b"yes", b"\n7:tag\n\x00\xff", b"x" * 10_000])
    async def test_seen(
        self, here: Replica, store: Store, redis_server: RedisServer, answer: bytes
    ) -> None:
        attempt = plan(2)
        attempt.put(RECORD, b"one")
        attempt.once(CALL, answer)
        first = await store.commit(attempt)
        await store.commit(plan(3))
        again = plan()
        again.expect(RECORD, "other than it is")
        again.put(RECORD, b"two")
        again.once(CALL, b"another answer")
        seen = await refused(store, again, "seen", redis_server)
        assert (seen.answer, seen.change) == (answer, first.change)
        assert 0 < await here.redis.pttl(CALL) <= CALLS_KEPT_MS

    async def test_what_was_not_done_was_not_seen(self, store: Store) -> None:
        for _ in range(2):
            attempt = plan()
            attempt.expect(RECORD, "0" * VERSION_CHARACTERS)
            attempt.once(CALL, b"answer")
            assert (await store.commit(attempt)).outcome == "conflict"
        attempt = plan()
        attempt.once(CALL, b"answer")
        assert (await store.commit(attempt)).outcome == "done"


class TestDeadline:
    async def test_late(
        self, here: Replica, store: Store, clock: FakeClock, redis_server: RedisServer
    ) -> None:
        """By Redis's clock, which `now_ms` follows once it was read, not by our own."""
        await store.write_alive("boot")
        assert abs(store.now_ms() - clock.wall_ms()) > 86_400_000
        for earlier_by, outcome in ((5_000, "late"), (-60_000, "done")):
            attempt = plan()
            attempt.not_after_ms = store.now_ms() - earlier_by
            attempt.put(RECORD, b"one")
            attempt.once(CALL, b"answer")
            if outcome == "late":
                await refused(store, attempt, outcome, redis_server)
            else:
                assert (await store.commit(attempt)).outcome == outcome


class TestLimits:
    async def fill(self, here: Replica, count: int) -> None:
        await here.redis.zadd(INDEX, {f"member {number}": number for number in range(count)})

    async def test_full(self, here: Replica, store: Store, redis_server: RedisServer) -> None:
        await self.fill(here, 3)
        attempt = plan()
        attempt.limit(INDEX, 3, "newcomer")
        attempt.write("ZADD", INDEX, 1, "newcomer")
        attempt.once(CALL, b"answer")
        await refused(store, attempt, "full", redis_server)

    async def test_room_for_one(self, here: Replica, store: Store) -> None:
        await self.fill(here, 2)
        attempt = plan()
        attempt.limit(INDEX, 3, "newcomer")
        attempt.write("ZADD", INDEX, 1, "newcomer")
        assert (await store.commit(attempt)).outcome == "done"

    async def test_who_is_in_stays_in(self, here: Replica, store: Store) -> None:
        await self.fill(here, 5)
        attempt = plan()
        attempt.limit(INDEX, 3, "member 2")
        attempt.write("ZADD", INDEX, 9, "member 2")
        assert (await store.commit(attempt)).outcome == "done"
        assert await here.redis.zscore(INDEX, "member 2") == 9


class TestNoPart:
    async def test_a_plan_that_redis_refuses_is_unknown(self, store: Store) -> None:
        attempt = plan()
        attempt.write("FLUSHALL", RECORD)
        with pytest.raises(StoreUnavailable):
            await store.commit(attempt)

    async def test_with_copies_it_is_done_only_once_one_has_it(self, store: Store) -> None:
        store.has_replicas = True
        with pytest.raises(StoreUnavailable, match="replica"):
            await store.commit(plan())
