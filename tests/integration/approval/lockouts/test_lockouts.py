"""Lock-out after wrong secrets, counted across all replicas."""

from __future__ import annotations

import asyncio
import collections
import time
from typing import TYPE_CHECKING

import msgspec

from services.approval.domain.lockout import (
    FAILURES_LIMIT,
    KNOWN_LIMIT_VALUES,
    LOCK_MS,
    WINDOW_MS,
    KnownValues,
)
from shared.clock import SystemClock
from shared.rpc.messages import (
    ASKED_ANEW,
    DEVICE_TOKEN,
    SHARED_SECRET,
    Admitted,
    Denied,
    LockedOut,
    NeedsPairing,
    ReportSecret,
    SecretAccepted,
)
from tests.integration.approval.lockouts.guessing import (
    ADDRESS,
    TWICE,
    Counter,
    Dispatchers,
    asks,
    call,
)
from tests.integration.approval.replica import Replica, replica
from tests.support.approval.devices import Device

if TYPE_CHECKING:
    from tools.support.processes.redis import RedisServer


class TestGuessesAreCountedAcrossReplicas:
    async def test_wrong_tokens_spread_over_replicas_lock_after_ten_in_all(
        self, dispatchers: Dispatchers
    ) -> None:
        answers = [await dispatchers.report_secret(right=False) for _ in range(40)]
        assert [type(answer) for answer in answers] == [SecretAccepted] * FAILURES_LIMIT + [
            LockedOut
        ] * 30

    async def test_simultaneous_guesses_lock_after_ten_in_all(
        self, dispatchers: Dispatchers
    ) -> None:
        answers = await asyncio.gather(
            *(dispatchers.report_secret(right=False) for _ in range(200))
        )
        kinds = collections.Counter(type(answer).__name__ for answer in answers)
        assert kinds == {"SecretAccepted": FAILURES_LIMIT, "LockedOut": 200 - FAILURES_LIMIT}

    async def test_guesses_sent_with_a_device_token_are_counted(
        self, dispatchers: Dispatchers, here: Replica
    ) -> None:
        device = Device.new()
        answers = [
            await dispatchers.ask(asks(device, number, token=f"guess {number}", **TWICE))
            for number in range(30)
        ]
        assert [type(answer) for answer in answers] == [Denied] * FAILURES_LIMIT + [LockedOut] * 20
        assert isinstance(await dispatchers.report_secret(right=True), LockedOut), (
            "both secrets were guessed"
        )

    async def test_a_right_secret_is_indistinguishable_during_a_lock_out(
        self, dispatchers: Dispatchers, here: Replica
    ) -> None:
        paired = Device.new()
        await here.pair(paired)
        for _ in range(FAILURES_LIMIT):
            await dispatchers.report_secret(right=False)
        assert isinstance(await dispatchers.report_secret(right=True), LockedOut)
        assert isinstance(await dispatchers.ask(asks(paired, 1)), LockedOut)
        assert isinstance(await dispatchers.ask(asks(Device.new(), 2)), LockedOut)

    async def test_clients_at_other_addresses_or_with_another_secret_are_admitted(
        self, dispatchers: Dispatchers, here: Replica
    ) -> None:
        device = Device.new()
        token = (await here.pair(device)).device_token
        for _ in range(FAILURES_LIMIT):
            await dispatchers.report_secret(right=False)
        assert isinstance(
            await dispatchers.report_secret(right=True, address="198.51.100.1"), SecretAccepted
        )
        assert isinstance(await dispatchers.ask(asks(device, 1, token=token)), Admitted)

    async def test_an_ipv6_network_of_64_bits_is_one_address(
        self, dispatchers: Dispatchers
    ) -> None:
        for number in range(FAILURES_LIMIT):
            await dispatchers.report_secret(right=False, address=f"2001:db8:0:7::{number + 1:x}")
        assert isinstance(
            await dispatchers.report_secret(right=False, address="2001:db8:0:7:ffff::1"), LockedOut
        )
        assert isinstance(
            await dispatchers.report_secret(right=False, address="2001:db8:0:8::1"), SecretAccepted
        )

    async def test_the_remaining_time_counts_down_from_five_minutes(
        self, redis_server: RedisServer
    ) -> None:
        async with replica(redis_server.approval_url, SystemClock()) as server:
            await server.store.liveness.write_alive("replica")
            await self._counts_down(Dispatchers([server]))

    async def _counts_down(self, dispatchers: Dispatchers) -> None:
        began = time.monotonic()
        for _ in range(FAILURES_LIMIT):
            await dispatchers.report_secret(right=False)
        lefts = []
        for _ in range(3):
            answer = await dispatchers.report_secret(right=False)
            assert isinstance(answer, LockedOut)
            lefts.append(answer.retry_after_ms)
        took_ms = (time.monotonic() - began) * 1000
        assert lefts == sorted(lefts, reverse=True)
        assert LOCK_MS - took_ms - 100 <= lefts[-1] <= lefts[0] <= LOCK_MS

    async def test_a_success_before_the_lock_clears_the_count(
        self, dispatchers: Dispatchers, here: Replica
    ) -> None:
        device = Device.new()
        await here.pair(device)
        for _ in range(FAILURES_LIMIT - 1):
            await dispatchers.report_secret(right=False)
        assert isinstance(await dispatchers.ask(asks(device, 1)), Admitted)
        for _ in range(FAILURES_LIMIT - 1):
            await dispatchers.report_secret(right=False)
        assert isinstance(await dispatchers.report_secret(right=True), SecretAccepted)
        for _ in range(FAILURES_LIMIT - 1):
            assert isinstance(await dispatchers.report_secret(right=False), SecretAccepted)

    async def test_a_device_still_needs_approval_after_a_wrong_secret(
        self, dispatchers: Dispatchers
    ) -> None:
        await dispatchers.report_secret(right=False)
        assert isinstance(await dispatchers.ask(asks(Device.new(), 1)), NeedsPairing)

    async def test_a_question_that_is_asked_again_counts_once(
        self, dispatchers: Dispatchers
    ) -> None:
        """The gateway asks again after a change: it is still one attempt."""
        device = Device.new()
        for again in range(2, 2 + 2 * FAILURES_LIMIT):
            question = asks(device, 1, token="guess", **TWICE)
            anew = msgspec.structs.replace(question, call_id=f"{call(1)}{ASKED_ANEW}{again}")
            assert isinstance(await dispatchers.ask(anew), Denied)
        assert isinstance(await dispatchers.report_secret(right=True), SecretAccepted)

    async def test_a_gateway_that_sends_no_digests_is_counted_by_connection(
        self, dispatchers: Dispatchers, here: Replica
    ) -> None:
        """During a rolling deployment each attempt counts as a new guess, as before."""
        device = Device.new()
        for number in range(FAILURES_LIMIT // 2):
            report_secret = ReportSecret(f"old:{number}", ADDRESS, [SHARED_SECRET], right=False)
            assert isinstance(await dispatchers.ask(report_secret), SecretAccepted)
            question = asks(
                device, number, token="d", gateway_token_failed=True, wrong_gateway_token=True
            )
            question = msgspec.structs.replace(question, guesses=[])
            assert isinstance(await dispatchers.ask(question), Denied)
        assert isinstance(await dispatchers.report_secret(right=True), LockedOut)

    async def test_a_retry_of_the_same_connection_counts_once(
        self, dispatchers: Dispatchers
    ) -> None:
        report_secret = ReportSecret("one connection", ADDRESS, [SHARED_SECRET], right=False)
        for _ in range(2 * FAILURES_LIMIT):
            assert isinstance(await dispatchers.ask(report_secret), SecretAccepted)
        assert isinstance(await dispatchers.report_secret(right=False), SecretAccepted)


class TestKnownValues:
    """A stale client that retries forever causes no write and no script."""

    @staticmethod
    async def scripts(here: Replica) -> int:
        stats = await here.redis.info("commandstats")
        return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))

    async def test_a_known_wrong_value_is_refused_without_a_script(self, here: Replica) -> None:
        await here.store.liveness.write_alive("here")
        dispatchers = Dispatchers([here])
        device = await here.paired()
        stale = [asks(device, number, token="stale", **TWICE) for number in range(20)]
        assert isinstance(await dispatchers.ask(stale[0]), Denied)
        assert isinstance(
            await dispatchers.report_secret(right=False, value="stale"), SecretAccepted
        )
        before = await self.scripts(here)
        for question in stale:
            assert isinstance(await dispatchers.ask(question), Denied)
            assert isinstance(
                await dispatchers.report_secret(right=False, value="stale"), SecretAccepted
            )
        assert await self.scripts(here) == before

    async def test_a_known_wrong_value_is_still_locked_out(self, here: Replica) -> None:
        await here.store.liveness.write_alive("here")
        dispatchers = Dispatchers([here])
        assert isinstance(
            await dispatchers.report_secret(right=False, value="stale"), SecretAccepted
        )
        await Counter(here).fail(times=FAILURES_LIMIT)
        assert isinstance(await dispatchers.report_secret(right=False, value="stale"), LockedOut)

    async def test_a_known_wrong_device_token_clears_no_failures(self, here: Replica) -> None:
        await here.store.liveness.write_alive("here")
        dispatchers = Dispatchers([here])
        device = await here.paired()
        for number in range(3):
            assert isinstance(await dispatchers.ask(asks(device, number, token="stale")), Denied)
        assert (await Counter(here).held())[DEVICE_TOKEN][0] == 1

    async def test_a_value_is_known_for_a_minute(self, here: Replica) -> None:
        wrong = {SHARED_SECRET: ["stale"]}
        await here.store.lockouts.count(ADDRESS, wrong)
        lockouts = here.store.lockouts
        assert lockouts.knows(ADDRESS, wrong)
        assert not lockouts.knows("203.0.113.8", wrong)
        assert not lockouts.knows(ADDRESS, {SHARED_SECRET: ["stale", "other"]})
        assert not lockouts.knows(ADDRESS, {DEVICE_TOKEN: ["stale"]})
        lockouts._clock.advance(WINDOW_MS / 1000 + 1)  # type: ignore[attr-defined]  # a FakeClock
        assert not lockouts.knows(ADDRESS, wrong)

    async def test_a_value_answered_by_a_lock_is_not_known(self, here: Replica) -> None:
        await Counter(here).fail(times=FAILURES_LIMIT)
        late = {SHARED_SECRET: ["late"]}
        assert await here.store.lockouts.count(ADDRESS, late) > 0
        assert not here.store.lockouts.knows(ADDRESS, late)

    def test_the_oldest_values_are_forgotten_first(self) -> None:
        known = KnownValues()
        for number in range(KNOWN_LIMIT_VALUES + 2):
            known.add(ADDRESS, {SHARED_SECRET: [str(number)]}, 0)
        assert not known.hold(ADDRESS, {SHARED_SECRET: ["1"]}, 1)
        assert known.hold(ADDRESS, {SHARED_SECRET: ["2"]}, 1)


class TestLateRequests:
    """Late requests are not counted: their client was told long ago that it timed out."""

    async def test_a_late_report_of_a_wrong_secret_is_not_counted(
        self, dispatchers: Dispatchers, here: Replica
    ) -> None:
        report_secret = ReportSecret("k:1", ADDRESS, [SHARED_SECRET], right=False, not_after_ms=1)
        assert await dispatchers.answered(report_secret) is None
        assert await Counter(here).held() == {}

    async def test_a_late_wrong_secret_beside_a_device_token_is_not_counted(
        self, dispatchers: Dispatchers, here: Replica
    ) -> None:
        device = await here.paired()
        guessed = asks(device, 1, token="guess", **TWICE, not_after_ms=1)
        assert await dispatchers.answered(guessed) is None
        assert await Counter(here).held() == {}
