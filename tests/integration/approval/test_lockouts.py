"""Lock-out after wrong secrets, counted across all replicas."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from services.approval.domain.lockout import (
    FAILURES_LIMIT,
    KNOWN_LIMIT_VALUES,
    LOCK_MS,
    REMEMBERED_LIMIT_VALUES,
    REMEMBERED_MS,
    WINDOW_MS,
    KnownValues,
)
from services.approval.requests.dispatcher import RequestDispatcher
from services.approval.storage.keys import LOCKOUTS, guard_key, wrong_values_key
from shared.clock import SystemClock
from shared.rpc.messages import (
    ASKED_ANEW,
    BOOTSTRAP_TOKEN,
    DEVICE_TOKEN,
    SHARED_SECRET,
    Admitted,
    Denied,
    Guess,
    LockedOut,
    NeedsPairing,
    ReportSecret,
    SecretAccepted,
    decode_answer,
    encode,
)
from shared.rpc.responder import Question, Reply
from tests.integration.approval.replica import Replica, everything, replica
from tests.unit.approval.devices import READ, Device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.rpc.messages import Answer, AuthorizeDevice
    from tools.support.redis import RedisServer

ADDRESS: Final = "203.0.113.7"
SLOW_MS: Final = 20_000
"""Time that a loaded machine may take between two steps of a test."""


def call(number: int) -> str:
    """Return the name of a connection."""
    return f"gateway:{number}"


class Counter:
    """Records failures and successes from one address, each time from another connection."""

    def __init__(self, replica: Replica, address: str = ADDRESS) -> None:
        self._store = replica.store
        self._address = address
        self._number = 0

    async def fail(self, *classes: str, times: int = 1, value: str = "") -> int:
        """Record failures; returns how long the last attempt is locked out.

        Each uses a new value, unless one is given.
        """
        left = 0
        for _ in range(times):
            self._number += 1
            digest = value or f"{self._address}:{self._number}"
            wrong = {name: [digest] for name in classes or (SHARED_SECRET,)}
            left = await self._store.lockouts.count(self._address, wrong)
        return left

    async def bring(self, *values: str, right_beside: bool = False) -> int:
        """Report wrong gateway tokens of one attempt; returns how long it is locked out."""
        wrong = {SHARED_SECRET: values}
        return await self._store.lockouts.count(self._address, wrong, right_beside=right_beside)

    async def succeed(self, *classes: str) -> None:
        """Report the right secret."""
        await self._store.lockouts.clear(self._address, classes or (SHARED_SECRET,))

    async def held(self) -> dict[str, list[int]]:
        """Return the failures counted against the address."""
        value = await self._store._client.get(guard_key(self._address))
        return msgspec.msgpack.decode(value) if value else {}

    async def earlier(self, milliseconds: int) -> None:
        """Move all counted failures and known values this far into the past."""
        held = {
            name: (failures, since - milliseconds, until and until - milliseconds)
            for name, (failures, since, until) in (await self.held()).items()
        }
        await self._keep(guard_key(self._address), held)
        known = {
            name: {value: last - milliseconds for value, last in values.items()}
            for name, values in (await self.remembered()).items()
        }
        if known:
            await self._keep(wrong_values_key(self._address), known, b"1" * 16)

    async def remembered(self) -> dict[str, dict[str, int]]:
        """Return the known wrong values by class."""
        value = await self._store._client.get(wrong_values_key(self._address))
        return msgspec.msgpack.decode(value[16:]) if value else {}

    async def _keep(self, key: str, value: Any, version: bytes = b"") -> None:
        encoded = version + msgspec.msgpack.encode(value)
        await self._store._client.set(key, encoded, keepttl=True)


@pytest.fixture
def counter(here: Replica) -> Counter:
    return Counter(here)


class TestScript:
    async def test_ten_failures_lock_and_the_eleventh_is_refused(self, counter: Counter) -> None:
        assert await counter.fail(times=FAILURES_LIMIT) == 0
        left = await counter.fail()
        assert LOCK_MS - SLOW_MS < left <= LOCK_MS

    async def test_nine_do_not(self, counter: Counter) -> None:
        assert await counter.fail(times=FAILURES_LIMIT - 1) == 0
        ((failures, _, until),) = (await counter.held()).values()
        assert (failures, until) == (FAILURES_LIMIT - 1, 0)

    async def test_it_counts_down_and_further_failures_do_not_prolong_it(
        self, counter: Counter
    ) -> None:
        await counter.fail(times=FAILURES_LIMIT)
        first = await counter.fail()
        await counter.earlier(100_000)
        left = await counter.fail(times=30)
        assert first - 100_000 - SLOW_MS < left <= first - 100_000

    async def test_it_ends_and_counting_begins_anew(self, counter: Counter) -> None:
        await counter.fail(times=FAILURES_LIMIT)
        await counter.earlier(LOCK_MS)
        assert await counter.fail(times=FAILURES_LIMIT) == 0
        assert await counter.fail() > 0

    async def test_the_window_passes(self, counter: Counter) -> None:
        await counter.fail(times=FAILURES_LIMIT - 1)
        await counter.earlier(WINDOW_MS)
        assert await counter.fail(times=FAILURES_LIMIT - 1) == 0
        assert await counter.fail() == 0
        assert await counter.fail() > 0

    async def test_within_the_window_all_count(self, counter: Counter) -> None:
        await counter.fail(times=FAILURES_LIMIT - 1)
        await counter.earlier(WINDOW_MS - SLOW_MS)
        await counter.fail()
        assert await counter.fail() > 0

    async def test_the_same_value_again_is_no_other_guess(self, counter: Counter) -> None:
        assert await counter.fail(times=3 * FAILURES_LIMIT, value="stale") == 0
        assert (await counter.held())[SHARED_SECRET][0] == 1

    async def test_nor_is_it_in_a_later_window(self, counter: Counter) -> None:
        """Many stale clients at one address lock it out at most once."""
        for number in range(FAILURES_LIMIT):
            await counter.fail(value=f"stale {number}")
        await counter.earlier(LOCK_MS)
        for _ in range(3):
            for number in range(FAILURES_LIMIT):
                assert await counter.fail(value=f"stale {number}") == 0
        assert await counter.fail(times=FAILURES_LIMIT) == 0
        assert await counter.fail() > 0

    async def test_a_value_that_is_brought_again_stays_remembered(self, counter: Counter) -> None:
        await counter.fail(value="stale")
        for _ in range(4):
            await counter.earlier(REMEMBERED_MS // 2)
            await counter.fail(value="stale")
        assert (await counter.held()).get(SHARED_SECRET, [1])[0] == 1

    async def test_one_that_was_not_brought_for_long_counts_anew(self, counter: Counter) -> None:
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

    async def test_of_more_values_than_are_remembered_the_oldest_goes(
        self, counter: Counter
    ) -> None:
        for number in range(REMEMBERED_LIMIT_VALUES + 5):
            await counter.fail(value=f"{number:03}")
            await counter.succeed()
            await counter.earlier(1)
        known = (await counter.remembered())[SHARED_SECRET]
        assert len(known) == REMEMBERED_LIMIT_VALUES
        assert min(known) == "005"

    async def test_a_value_that_came_during_a_lock_out_is_not_remembered(
        self, counter: Counter
    ) -> None:
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

    async def test_two_that_do_not_both_fit_are_answered_by_the_lock(
        self, counter: Counter
    ) -> None:
        """Otherwise an eleventh guess would be answered."""
        await counter.fail(times=FAILURES_LIMIT - 1)
        assert await counter.bring("a", "b") == LOCK_MS
        known = (await counter.remembered())[SHARED_SECRET]
        assert not {"a", "b"} & known.keys()

    async def test_a_right_one_beside_a_wrong_one_has_to_fit_as_well(
        self, counter: Counter
    ) -> None:
        await counter.fail(times=FAILURES_LIMIT - 2)
        assert await counter.bring("a", right_beside=True) == 0
        assert await counter.bring("b", right_beside=True) == LOCK_MS

    async def test_a_known_wrong_one_beside_a_right_one_never_locks(self, counter: Counter) -> None:
        await counter.fail(value="stale")
        await counter.fail(times=FAILURES_LIMIT - 2)
        assert await counter.bring("stale", right_beside=True) == 0
        assert await counter.bring("new", right_beside=True) == LOCK_MS

    async def test_classes_are_separate(self, counter: Counter) -> None:
        await counter.fail(SHARED_SECRET, times=FAILURES_LIMIT)
        assert await counter.fail(SHARED_SECRET) > 0
        assert await counter.fail(DEVICE_TOKEN, times=FAILURES_LIMIT) == 0
        assert await counter.fail(BOOTSTRAP_TOKEN) == 0

    async def test_one_attempt_may_fail_for_two(self, counter: Counter) -> None:
        await counter.fail(DEVICE_TOKEN, SHARED_SECRET, times=FAILURES_LIMIT)
        assert await counter.fail(SHARED_SECRET) > 0
        assert await counter.fail(DEVICE_TOKEN) > 0

    async def test_a_lock_keeps_no_other_class_from_being_counted(self, counter: Counter) -> None:
        """Otherwise an attacker could lock one class and keep guessing the other."""
        await counter.fail(DEVICE_TOKEN, times=FAILURES_LIMIT)
        assert await counter.fail(DEVICE_TOKEN, SHARED_SECRET, times=FAILURES_LIMIT) > 0
        assert await counter.fail(SHARED_SECRET) > 0

    async def test_of_two_locks_the_first_is_reported(self, counter: Counter) -> None:
        await counter.fail(DEVICE_TOKEN, times=FAILURES_LIMIT)
        await counter.earlier(2 * SLOW_MS)
        await counter.fail(SHARED_SECRET, times=FAILURES_LIMIT)
        assert await counter.fail(DEVICE_TOKEN, SHARED_SECRET) <= LOCK_MS - 2 * SLOW_MS
        assert await counter.fail(SHARED_SECRET, DEVICE_TOKEN) > LOCK_MS - SLOW_MS

    async def test_success_clears_its_class_alone(self, counter: Counter) -> None:
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

    async def test_addresses_are_separate(self, here: Replica, counter: Counter) -> None:
        await counter.fail(times=FAILURES_LIMIT)
        assert await Counter(here, "203.0.113.8").fail() == 0

    async def test_nothing_stays_for_ever(
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

    async def test_a_lock_stands_in_the_index_until_it_ends(
        self, here: Replica, counter: Counter
    ) -> None:
        await counter.fail(SHARED_SECRET, DEVICE_TOKEN, times=FAILURES_LIMIT)
        found = await here.redis.zrange(LOCKOUTS, 0, -1)
        assert found == [f"{name} {ADDRESS}".encode() for name in (DEVICE_TOKEN, SHARED_SECRET)]
        await here.redis.zadd(LOCKOUTS, {f"{DEVICE_TOKEN} {ADDRESS}": 1})
        await Counter(here, "203.0.113.8").fail(times=FAILURES_LIMIT)
        found = await here.redis.zrange(LOCKOUTS, 0, -1)
        assert found == [f"{SHARED_SECRET} {one}".encode() for one in (ADDRESS, "203.0.113.8")]


class Dispatchers:
    """The request dispatchers of two replicas, called without a bus."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._questions = [
            RequestDispatcher(one.admissions, one.methods, one.store, one.metrics, one.places)
            for one in replicas
        ]
        self.asked = 0

    async def answered(self, question: Any) -> Reply:
        """Ask the replicas in turn; returns the encoded reply."""
        at = self.asked % len(self._questions)
        self.asked += 1
        asked = Question("gateway", msgspec.Raw(encode(question)))
        (reply,) = await self._questions[at].dispatch([asked])
        return await reply if isinstance(reply, asyncio.Future) else reply

    async def ask(self, question: Any) -> Answer:
        """Ask the replicas in turn; returns the decoded answer."""
        reply = await self.answered(question)
        assert isinstance(reply, bytes), reply
        answer: Answer = decode_answer(reply)
        return answer

    async def report_secret(
        self, *, right: bool, address: str = ADDRESS, value: str = ""
    ) -> Answer:
        """Report a gateway token without a device: a new wrong one each time, unless given."""
        wrong = [] if right else [Guess(SHARED_SECRET, value or f"wrong {self.asked}")]
        call_id = f"k:{self.asked}"
        return await self.ask(ReportSecret(call_id, address, [SHARED_SECRET], right, guesses=wrong))


@pytest.fixture
async def dispatchers(here: Replica, there: Replica) -> Dispatchers:
    for one in (here, there):
        await one.store.write_alive("replica")
    return Dispatchers([here, there])


def asks(device: Device, number: int, *, token: str = "", **beside: Any) -> AuthorizeDevice:
    """Return a device's request from the address, each time from another connection.

    `beside`: what the gateway reports about an accompanying gateway token, as in AuthorizeDevice.
    """
    question = device.asks(READ, address=ADDRESS, token=token, call_id=call(number))
    if beside.get("guessed_secret"):
        beside = {"guesses": [f"digest {number}"], **beside}
    return msgspec.structs.replace(question, **beside)


GUESSED: Final[dict[str, Any]] = {"wrong_secret": True, "guessed_secret": True}
"""A wrong gateway token beside a device token: a different one for each number."""
TWICE: Final[dict[str, Any]] = {"wrong_secret": True, "candidate_offered": True}
"""The device token repeated as the gateway token, as the reference client sends it."""


class TestGuessesAreCountedAcrossReplicas:
    async def test_wrong_tokens_spread_over_replicas_lock_after_ten_in_all(
        self, dispatchers: Dispatchers
    ) -> None:
        answers = [await dispatchers.report_secret(right=False) for _ in range(40)]
        assert [type(one) for one in answers] == [SecretAccepted] * FAILURES_LIMIT + [
            LockedOut
        ] * 30

    async def test_simultaneous_guesses_lock_after_ten_in_all(
        self, dispatchers: Dispatchers
    ) -> None:
        answers = await asyncio.gather(
            *(dispatchers.report_secret(right=False) for _ in range(200))
        )
        assert sum(isinstance(one, SecretAccepted) for one in answers) == FAILURES_LIMIT

    async def test_guesses_sent_with_a_device_token_are_counted(
        self, dispatchers: Dispatchers, here: Replica
    ) -> None:
        device = Device.new()
        answers = [
            await dispatchers.ask(asks(device, number, token=f"guess {number}", **TWICE))
            for number in range(30)
        ]
        assert [type(one) for one in answers] == [Denied] * FAILURES_LIMIT + [LockedOut] * 20
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

    async def test_clients_elsewhere_or_with_another_secret_are_admitted(
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

    async def test_a_whole_64_is_one_address(self, dispatchers: Dispatchers) -> None:
        for number in range(FAILURES_LIMIT):
            await dispatchers.report_secret(right=False, address=f"2001:db8:0:7::{number + 1:x}")
        assert isinstance(
            await dispatchers.report_secret(right=False, address="2001:db8:0:7:ffff::1"), LockedOut
        )
        assert isinstance(
            await dispatchers.report_secret(right=False, address="2001:db8:0:8::1"), SecretAccepted
        )

    async def test_how_long_it_lasts_counts_down_from_five_minutes(
        self, redis_server: RedisServer
    ) -> None:
        async with replica(redis_server.approval_url, SystemClock()) as one:
            await one.store.write_alive("replica")
            await self._counts_down(Dispatchers([one]))

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

    async def test_a_success_in_time_clears_the_count(
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

    async def test_a_person_still_has_to_approve(self, dispatchers: Dispatchers) -> None:
        await dispatchers.report_secret(right=False)
        assert isinstance(await dispatchers.ask(asks(Device.new(), 1)), NeedsPairing)

    async def test_nor_does_a_question_that_is_asked_anew_count_again(
        self, dispatchers: Dispatchers
    ) -> None:
        """The gateway asks again after a change: it is still one attempt."""
        device = Device.new()
        for again in range(2, 2 + 2 * FAILURES_LIMIT):
            question = asks(device, 1, token="guess", **TWICE)
            anew = msgspec.structs.replace(question, call_id=f"{call(1)}{ASKED_ANEW}{again}")
            assert isinstance(await dispatchers.ask(anew), Denied)
        assert isinstance(await dispatchers.report_secret(right=True), SecretAccepted)

    async def test_a_gateway_that_sends_no_digests_yet_counts_by_connection(
        self, dispatchers: Dispatchers, here: Replica
    ) -> None:
        """During a rolling deployment each attempt counts as a new guess, as before."""
        device = Device.new()
        for number in range(FAILURES_LIMIT // 2):
            report_secret = ReportSecret(f"old:{number}", ADDRESS, [SHARED_SECRET], right=False)
            assert isinstance(await dispatchers.ask(report_secret), SecretAccepted)
            question = asks(device, number, token="d", wrong_secret=True, guessed_secret=True)
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

    async def test_it_is_refused_as_before(self, here: Replica) -> None:
        await here.store.write_alive("here")
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

    async def test_a_lock_out_is_reported_nevertheless(self, here: Replica) -> None:
        await here.store.write_alive("here")
        dispatchers = Dispatchers([here])
        assert isinstance(
            await dispatchers.report_secret(right=False, value="stale"), SecretAccepted
        )
        await Counter(here).fail(times=FAILURES_LIMIT)
        assert isinstance(await dispatchers.report_secret(right=False, value="stale"), LockedOut)

    async def test_a_wrong_device_token_that_is_known_clears_no_failures(
        self, here: Replica
    ) -> None:
        await here.store.write_alive("here")
        dispatchers = Dispatchers([here])
        device = await here.paired()
        for number in range(3):
            assert isinstance(await dispatchers.ask(asks(device, number, token="stale")), Denied)
        assert (await Counter(here).held())[DEVICE_TOKEN][0] == 1

    async def test_after_a_minute_it_is_noted_anew(self, here: Replica) -> None:
        wrong = {SHARED_SECRET: ["stale"]}
        await here.store.lockouts.count(ADDRESS, wrong)
        lockouts = here.store.lockouts
        assert lockouts.knows(ADDRESS, wrong)
        assert not lockouts.knows("203.0.113.8", wrong)
        assert not lockouts.knows(ADDRESS, {SHARED_SECRET: ["stale", "other"]})
        assert not lockouts.knows(ADDRESS, {DEVICE_TOKEN: ["stale"]})
        lockouts._clock.advance(WINDOW_MS / 1000 + 1)  # type: ignore[attr-defined]  # a FakeClock
        assert not lockouts.knows(ADDRESS, wrong)

    async def test_what_was_answered_by_a_lock_is_not_known(self, here: Replica) -> None:
        await Counter(here).fail(times=FAILURES_LIMIT)
        late = {SHARED_SECRET: ["late"]}
        assert await here.store.lockouts.count(ADDRESS, late) > 0
        assert not here.store.lockouts.knows(ADDRESS, late)

    def test_the_oldest_are_forgotten_first(self) -> None:
        known = KnownValues()
        for number in range(KNOWN_LIMIT_VALUES + 2):
            known.add(ADDRESS, {SHARED_SECRET: [str(number)]}, 0)
        assert not known.hold(ADDRESS, {SHARED_SECRET: ["1"]}, 1)
        assert known.hold(ADDRESS, {SHARED_SECRET: ["2"]}, 1)


class TestBesideARightDeviceToken:
    """A wrong gateway token counts there too; the device is admitted nevertheless."""

    @pytest.fixture
    async def device(self, here: Replica) -> Device:
        return await here.paired()

    @pytest.fixture
    async def token(self, here: Replica, device: Device) -> str:
        return (await here.admit(device.asks(READ))).device_token

    async def test_ten_lock_the_gateway_token_out_and_not_the_device(
        self, dispatchers: Dispatchers, device: Device, token: str
    ) -> None:
        for number in range(2 * FAILURES_LIMIT):
            answer = await dispatchers.ask(asks(device, number, token=token, **GUESSED))
            assert isinstance(answer, Admitted)
        assert isinstance(await dispatchers.report_secret(right=True), LockedOut)
        assert isinstance(await dispatchers.ask(asks(device, 99)), LockedOut)
        assert isinstance(await dispatchers.ask(asks(device, 100, token=token)), Admitted)

    async def test_nine_do_not(self, dispatchers: Dispatchers, device: Device, token: str) -> None:
        for number in range(FAILURES_LIMIT - 1):
            await dispatchers.ask(asks(device, number, token=token, **GUESSED))
        assert isinstance(await dispatchers.report_secret(right=True), SecretAccepted)

    async def test_one_that_needs_a_person_is_counted_too(
        self, dispatchers: Dispatchers, device: Device, token: str
    ) -> None:
        for number in range(FAILURES_LIMIT):
            question = asks(device, number, token=token, **GUESSED)
            other = msgspec.structs.replace(question.client, platform="windows")
            answer = await dispatchers.ask(msgspec.structs.replace(question, client=other))
            assert isinstance(answer, NeedsPairing)
        assert isinstance(await dispatchers.report_secret(right=True), LockedOut)

    async def test_a_retry_of_the_same_connection_counts_once(
        self, dispatchers: Dispatchers, device: Device, token: str
    ) -> None:
        for _ in range(2 * FAILURES_LIMIT):
            await dispatchers.ask(asks(device, 1, token=token, **GUESSED))
        assert isinstance(await dispatchers.report_secret(right=True), SecretAccepted)

    async def test_the_device_token_in_both_fields_never_counts(
        self, dispatchers: Dispatchers, device: Device, token: str
    ) -> None:
        for number in range(2 * FAILURES_LIMIT):
            await dispatchers.ask(asks(device, number, token=token, **TWICE))
        assert isinstance(await dispatchers.report_secret(right=True), SecretAccepted)

    @pytest.mark.parametrize("field", ["token", "deviceToken"])
    async def test_success_clears_what_was_proven_and_no_other(
        self, dispatchers: Dispatchers, here: Replica, device: Device, token: str, field: str
    ) -> None:
        """Otherwise the holder of a device token could guess the gateway token forever."""
        counter = Counter(here)
        await counter.fail(SHARED_SECRET, DEVICE_TOKEN, times=FAILURES_LIMIT - 1)
        question = asks(device, 1, token=token, **TWICE)
        question = msgspec.structs.replace(question, candidate_field=field)
        assert isinstance(await dispatchers.ask(question), Admitted)
        assert list(await counter.held()) == [SHARED_SECRET]

    async def test_during_a_lock_out_a_right_gateway_token_is_like_a_wrong_one(
        self, dispatchers: Dispatchers, device: Device, token: str
    ) -> None:
        """Otherwise the holder of a device token could keep guessing during the lock-out."""
        right: dict[str, Any] = {"method": "token"}
        first = await dispatchers.ask(asks(device, 1, token=token, **right))
        assert isinstance(first, Admitted)
        assert first.method == "token"
        for _ in range(FAILURES_LIMIT):
            await dispatchers.report_secret(right=False)
        for number, secret in enumerate([right, GUESSED], start=2):
            answer = await dispatchers.ask(asks(device, number, token=token, **secret))
            assert isinstance(answer, Admitted)
            assert answer.method == "device-token"
        for number, secret in enumerate([right, GUESSED], start=4):
            answer = await dispatchers.ask(asks(device, number, token="guess", **secret))
            assert isinstance(answer, LockedOut)


class TestNotAfter:
    """Late requests are not counted: their client was told long ago that nobody answered (R11)."""

    async def test_a_wrong_secret(self, dispatchers: Dispatchers, here: Replica) -> None:
        report_secret = ReportSecret("k:1", ADDRESS, [SHARED_SECRET], right=False, not_after_ms=1)
        assert await dispatchers.answered(report_secret) is None
        assert await Counter(here).held() == {}

    async def test_one_beside_a_device_token(self, dispatchers: Dispatchers, here: Replica) -> None:
        device = await here.paired()
        guessed = asks(device, 1, token="guess", **TWICE, not_after_ms=1)
        assert await dispatchers.answered(guessed) is None
        assert await Counter(here).held() == {}
