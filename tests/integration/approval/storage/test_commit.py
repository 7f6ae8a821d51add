"""commit.lua and the plans it carries out: all or nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from services.approval.domain.errors import StoreUnavailable
from services.approval.domain.records import VERSION_CHARACTERS
from services.approval.storage.changes.transaction import CALLS_KEPT_MS, TransactionPlan
from tests.integration.approval.replica import everything
from tests.integration.approval.storage.plans import plan, run

if TYPE_CHECKING:
    from services.approval.storage.changes.transaction_log import Committed
    from services.approval.storage.store import Store
    from tests.integration.approval.replica import Replica
    from tests.support.clock import FakeClock
    from tools.support.processes.redis import RedisServer

RECORD, OTHER, INDEX, CALL = (f"latchkey:{name}" for name in ("a", "b", "index", "call"))


async def version(here: Replica, key: str) -> str:
    """Return the version of the record stored under a key."""
    return ((await here.redis.get(key)) or b"")[:VERSION_CHARACTERS].decode()


async def refused(
    store: Store, attempt: TransactionPlan, outcome: str, redis_server: RedisServer
) -> Committed:
    """Make a commit that must end this way, and check that nothing was written."""
    before = await everything(redis_server.admin_url)
    committed = await run(store, attempt)
    assert committed.outcome == outcome
    assert await everything(redis_server.admin_url) == before
    return committed


class TestExpects:
    async def test_a_record_is_expected_as_it_was_read(self, here: Replica, store: Store) -> None:
        attempt = plan()
        attempt.expect(RECORD, "")
        attempt.put(RECORD, b"one")
        assert (await run(store, attempt)).outcome == "done"
        first = await version(here, RECORD)
        attempt = plan()
        attempt.expect(RECORD, first)
        attempt.put(RECORD, b"two\x00\n")
        assert (await run(store, attempt)).outcome == "done"
        assert await here.redis.get(RECORD) == (await version(here, RECORD)).encode() + b"two\x00\n"
        assert await version(here, RECORD) != first

    @pytest.mark.parametrize("expected", ["", "0" * VERSION_CHARACTERS])
    async def test_an_unexpected_version_is_a_conflict(
        self, store: Store, redis_server: RedisServer, expected: str
    ) -> None:
        attempt = plan()
        attempt.put(RECORD, b"one")
        head = (await run(store, attempt)).change
        attempt = plan()
        attempt.expect(OTHER, "")
        attempt.expect(RECORD, expected)
        attempt.put(OTHER, b"x")
        attempt.once(CALL, b"answer")
        assert (await refused(store, attempt, "conflict", redis_server)).change == head

    async def test_a_record_that_is_gone_is_a_conflict(
        self, store: Store, redis_server: RedisServer
    ) -> None:
        attempt = plan()
        attempt.expect(RECORD, "0" * VERSION_CHARACTERS)
        attempt.put(RECORD, b"one")
        await refused(store, attempt, "conflict", redis_server)

    async def test_one_of_many_simultaneous_plans_wins(self, here: Replica, store: Store) -> None:
        attempts = [plan() for _ in range(20)]
        for number, attempt in enumerate(attempts):
            attempt.expect(RECORD, "")
            attempt.put(RECORD, b"%d" % number)
        outcomes = [
            item.outcome
            for item in await asyncio.gather(*(run(store, attempt) for attempt in attempts))
        ]
        assert sorted(outcomes) == ["conflict"] * 19 + ["done"]
        assert (await store.load([]))[0].number == 1
        stored = (await here.redis.get(RECORD))[VERSION_CHARACTERS:]
        assert outcomes[int(stored)] == "done"


class TestCalls:
    @pytest.mark.parametrize("answer", [b"", b"yes", b"\n7:tag\n\x00\xff", b"x" * 10_000])
    async def test_a_repeated_call_gets_the_first_answer(
        self, here: Replica, store: Store, redis_server: RedisServer, answer: bytes
    ) -> None:
        attempt = plan(2)
        attempt.put(RECORD, b"one")
        attempt.once(CALL, answer)
        first = await run(store, attempt)
        await run(store, plan(3))
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
            assert (await run(store, attempt)).outcome == "conflict"
        attempt = plan()
        attempt.once(CALL, b"answer")
        assert (await run(store, attempt)).outcome == "done"


class TestDeadline:
    async def test_a_commit_past_its_deadline_writes_nothing(
        self, here: Replica, store: Store, clock: FakeClock, redis_server: RedisServer
    ) -> None:
        """Redis's clock decides, which `now_ms` follows once it was read, not our own."""
        await store.liveness.write_alive("boot")
        assert abs(store.now_ms() - clock.wall_ms()) > 86_400_000
        for earlier_by, outcome in ((5_000, "late"), (-60_000, "done")):
            attempt = plan()
            attempt.not_after_ms = store.now_ms() - earlier_by
            attempt.put(RECORD, b"one")
            attempt.once(CALL, b"answer")
            if outcome == "late":
                await refused(store, attempt, outcome, redis_server)
            else:
                assert (await run(store, attempt)).outcome == outcome


class TestLimits:
    async def fill(self, here: Replica, count: int) -> None:
        await here.redis.zadd(INDEX, {f"member {number}": number for number in range(count)})

    async def test_a_full_index_refuses_another_member(
        self, here: Replica, store: Store, redis_server: RedisServer
    ) -> None:
        await self.fill(here, 3)
        attempt = plan()
        attempt.limit(INDEX, 3, "newcomer")
        attempt.write("ZADD", INDEX, 1, "newcomer")
        attempt.once(CALL, b"answer")
        await refused(store, attempt, "full", redis_server)

    async def test_the_last_free_place_is_given_once(self, here: Replica, store: Store) -> None:
        await self.fill(here, 2)
        attempt = plan()
        attempt.limit(INDEX, 3, "newcomer")
        attempt.write("ZADD", INDEX, 1, "newcomer")
        assert (await run(store, attempt)).outcome == "done"

    async def test_admitted_clients_stay_connected(self, here: Replica, store: Store) -> None:
        await self.fill(here, 5)
        attempt = plan()
        attempt.limit(INDEX, 3, "member 2")
        attempt.write("ZADD", INDEX, 9, "member 2")
        assert (await run(store, attempt)).outcome == "done"
        assert await here.redis.zscore(INDEX, "member 2") == 9


class TestNoPart:
    async def test_a_plan_that_redis_refuses_is_unknown(self, store: Store) -> None:
        attempt = plan()
        attempt.write("FLUSHALL", RECORD)
        with pytest.raises(StoreUnavailable):
            await run(store, attempt)

    async def test_with_copies_it_is_done_only_once_one_has_it(self, store: Store) -> None:
        store.has_replicas = True
        with pytest.raises(StoreUnavailable, match="replica"):
            await run(store, plan())
