"""The script that counts wrong secrets in Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.approval.domain.lockout import (
    FAILURES_LIMIT,
    LOCK_MS,
    REMEMBERED_LIMIT_VALUES,
    REMEMBERED_MS,
    WINDOW_MS,
)
from services.approval.storage.keys import LOCKOUTS, guard_key
from shared.rpc.messages import (
    BOOTSTRAP_TOKEN,
    DEVICE_TOKEN,
    SHARED_SECRET,
)
from tests.integration.approval.lockouts.guessing import ADDRESS, SLOW_MS, Counter
from tests.integration.approval.replica import Replica, everything

if TYPE_CHECKING:
    from tools.support.processes.redis import RedisServer


class TestScript:
    async def test_ten_failures_lock_and_the_eleventh_is_refused(self, counter: Counter) -> None:
        assert await counter.fail(times=FAILURES_LIMIT) == 0
        left = await counter.fail()
        assert LOCK_MS - SLOW_MS < left <= LOCK_MS

    async def test_nine_failures_do_not_lock(self, counter: Counter) -> None:
        assert await counter.fail(times=FAILURES_LIMIT - 1) == 0
        ((failures, _, until),) = (await counter.held()).values()
        assert (failures, until) == (FAILURES_LIMIT - 1, 0)

    async def test_a_lock_counts_down_and_further_failures_do_not_prolong_it(
        self, counter: Counter
    ) -> None:
        await counter.fail(times=FAILURES_LIMIT)
        first = await counter.fail()
        await counter.earlier(100_000)
        left = await counter.fail(times=30)
        assert first - 100_000 - SLOW_MS < left <= first - 100_000

    async def test_counting_starts_again_after_a_lock(self, counter: Counter) -> None:
        await counter.fail(times=FAILURES_LIMIT)
        await counter.earlier(LOCK_MS)
        assert await counter.fail(times=FAILURES_LIMIT) == 0
        assert await counter.fail() > 0

    async def test_failures_of_an_earlier_window_do_not_count(self, counter: Counter) -> None:
        await counter.fail(times=FAILURES_LIMIT - 1)
        await counter.earlier(WINDOW_MS)
        assert await counter.fail(times=FAILURES_LIMIT - 1) == 0
        assert await counter.fail() == 0
        assert await counter.fail() > 0

    async def test_all_failures_within_the_window_count(self, counter: Counter) -> None:
        await counter.fail(times=FAILURES_LIMIT - 1)
        await counter.earlier(WINDOW_MS - SLOW_MS)
        await counter.fail()
        assert await counter.fail() > 0

    async def test_a_repeated_value_is_one_guess(self, counter: Counter) -> None:
        assert await counter.fail(times=3 * FAILURES_LIMIT, value="stale") == 0
        assert (await counter.held())[SHARED_SECRET][0] == 1

    async def test_a_repeated_value_is_no_new_guess_in_a_later_window(
        self, counter: Counter
    ) -> None:
        """Many stale clients at one address lock it out at most once."""
        for number in range(FAILURES_LIMIT):
            await counter.fail(value=f"stale {number}")
        await counter.earlier(LOCK_MS)
        for _ in range(3):
            for number in range(FAILURES_LIMIT):
                assert await counter.fail(value=f"stale {number}") == 0
        assert await counter.fail(times=FAILURES_LIMIT) == 0
        assert await counter.fail() > 0

    async def test_a_value_that_is_sent_again_stays_remembered(self, counter: Counter) -> None:
        await counter.fail(value="stale")
        for _ in range(4):
            await counter.earlier(REMEMBERED_MS // 2)
            await counter.fail(value="stale")
        assert (await counter.held()).get(SHARED_SECRET, [1])[0] == 1

    async def test_a_value_that_was_not_sent_for_a_long_time_counts_again(
        self, counter: Counter
    ) -> None:
        await counter.fail(value="stale")
        await counter.earlier(REMEMBERED_MS)
        await counter.fail(value="stale")
        ((_failures, since, _until),) = (await counter.held()).values()
        assert (await counter.remembered())[SHARED_SECRET]["stale"] == since, "counted just now"

    async def test_a_repeated_value_writes_nothing(self, here: Replica, counter: Counter) -> None:
        await counter.fail(value="stale")
        before = (await here.redis.info("persistence"))["rdb_changes_since_last_save"]
        await counter.fail(value="stale", times=20)
        after = (await here.redis.info("persistence"))["rdb_changes_since_last_save"]
        assert after == before

    async def test_the_oldest_value_is_forgotten_when_too_many_are_known(
        self, counter: Counter
    ) -> None:
        for number in range(REMEMBERED_LIMIT_VALUES + 5):
            await counter.fail(value=f"{number:03}")
            await counter.succeed()
            await counter.earlier(1)
        known = (await counter.remembered())[SHARED_SECRET]
        assert len(known) == REMEMBERED_LIMIT_VALUES
        assert min(known) == "005"

    async def test_a_value_sent_during_a_lock_out_is_not_remembered(self, counter: Counter) -> None:
        """No client learned that it is wrong, so afterwards it counts as a guess."""
        await counter.fail(times=FAILURES_LIMIT)
        await counter.fail(value="late")
        assert "late" not in (await counter.remembered())[SHARED_SECRET]
        await counter.earlier(LOCK_MS)
        await counter.fail(value="late")
        assert (await counter.held())[SHARED_SECRET][0] == 1

    async def test_two_values_in_one_attempt_are_two_guesses(self, counter: Counter) -> None:
        for number in range(0, FAILURES_LIMIT, 2):
            assert await counter.bring(f"{number}", f"{number + 1}") == 0
        assert await counter.bring("one more") > 0

    async def test_two_values_that_would_exceed_the_limit_are_locked_out(
        self, counter: Counter
    ) -> None:
        """Otherwise an eleventh guess would be answered."""
        await counter.fail(times=FAILURES_LIMIT - 1)
        assert await counter.bring("a", "b") == LOCK_MS
        known = (await counter.remembered())[SHARED_SECRET]
        assert not {"a", "b"} & known.keys()

    async def test_a_right_value_beside_a_wrong_one_counts_towards_the_limit(
        self, counter: Counter
    ) -> None:
        await counter.fail(times=FAILURES_LIMIT - 2)
        assert await counter.bring("a", right_beside=True) == 0
        assert await counter.bring("b", right_beside=True) == LOCK_MS

    async def test_a_known_wrong_value_beside_a_right_one_never_locks(
        self, counter: Counter
    ) -> None:
        await counter.fail(value="stale")
        await counter.fail(times=FAILURES_LIMIT - 2)
        assert await counter.bring("stale", right_beside=True) == 0
        assert await counter.bring("new", right_beside=True) == LOCK_MS

    async def test_credentials_are_counted_separately(self, counter: Counter) -> None:
        await counter.fail(SHARED_SECRET, times=FAILURES_LIMIT)
        assert await counter.fail(SHARED_SECRET) > 0
        assert await counter.fail(DEVICE_TOKEN, times=FAILURES_LIMIT) == 0
        assert await counter.fail(BOOTSTRAP_TOKEN) == 0

    async def test_one_attempt_may_fail_for_two_credentials(self, counter: Counter) -> None:
        await counter.fail(DEVICE_TOKEN, SHARED_SECRET, times=FAILURES_LIMIT)
        assert await counter.fail(SHARED_SECRET) > 0
        assert await counter.fail(DEVICE_TOKEN) > 0

    async def test_a_locked_credential_does_not_stop_the_count_of_another(
        self, counter: Counter
    ) -> None:
        """Otherwise an attacker could lock one class and keep guessing the other."""
        await counter.fail(DEVICE_TOKEN, times=FAILURES_LIMIT)
        assert await counter.fail(DEVICE_TOKEN, SHARED_SECRET, times=FAILURES_LIMIT) > 0
        assert await counter.fail(SHARED_SECRET) > 0

    async def test_the_lock_of_the_first_of_two_credentials_is_reported(
        self, counter: Counter
    ) -> None:
        await counter.fail(DEVICE_TOKEN, times=FAILURES_LIMIT)
        await counter.earlier(2 * SLOW_MS)
        await counter.fail(SHARED_SECRET, times=FAILURES_LIMIT)
        assert await counter.fail(DEVICE_TOKEN, SHARED_SECRET) <= LOCK_MS - 2 * SLOW_MS
        assert await counter.fail(SHARED_SECRET, DEVICE_TOKEN) > LOCK_MS - SLOW_MS

    async def test_success_clears_only_its_own_credential(self, counter: Counter) -> None:
        await counter.fail(SHARED_SECRET, DEVICE_TOKEN, times=FAILURES_LIMIT - 1)
        await counter.succeed(SHARED_SECRET)
        assert list(await counter.held()) == [DEVICE_TOKEN]
        assert await counter.fail(SHARED_SECRET, times=FAILURES_LIMIT - 1) == 0
        await counter.fail(DEVICE_TOKEN)
        assert await counter.fail(DEVICE_TOKEN) > 0

    async def test_success_does_not_unlock(self, counter: Counter) -> None:
        await counter.fail(times=FAILURES_LIMIT)
        await counter.succeed()
        assert await counter.fail() > 0

    async def test_addresses_are_counted_separately(self, here: Replica, counter: Counter) -> None:
        await counter.fail(times=FAILURES_LIMIT)
        assert await Counter(here, "203.0.113.8").fail() == 0

    async def test_every_key_expires(
        self, here: Replica, counter: Counter, redis_server: RedisServer
    ) -> None:
        await counter.fail(times=FAILURES_LIMIT)
        for key in await everything(redis_server.admin_url):
            assert 0 < await here.redis.pttl(key) <= REMEMBERED_MS
        await counter.earlier(LOCK_MS)
        await counter.fail()
        await counter.succeed()
        assert guard_key(ADDRESS) not in await everything(redis_server.admin_url)

    async def test_success_forgets_no_wrong_value(self, counter: Counter) -> None:
        await counter.fail(value="stale")
        await counter.succeed()
        await counter.fail(value="stale", times=FAILURES_LIMIT)
        assert await counter.held() == {}

    async def test_a_lock_is_in_the_index_until_it_ends(
        self, here: Replica, counter: Counter
    ) -> None:
        await counter.fail(SHARED_SECRET, DEVICE_TOKEN, times=FAILURES_LIMIT)
        found = await here.redis.zrange(LOCKOUTS, 0, -1)
        assert found == [f"{name} {ADDRESS}".encode() for name in (DEVICE_TOKEN, SHARED_SECRET)]
        await here.redis.zadd(LOCKOUTS, {f"{DEVICE_TOKEN} {ADDRESS}": 1})
        await Counter(here, "203.0.113.8").fail(times=FAILURES_LIMIT)
        found = await here.redis.zrange(LOCKOUTS, 0, -1)
        assert found == [f"{SHARED_SECRET} {item}".encode() for item in (ADDRESS, "203.0.113.8")]
