"""Lock-outs limit what an attacker can try, for any sequence of attempts.

The last test compares the rule in Python with the one in Lua.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from services.approval.domain.lockout import (
    FAILURES_LIMIT,
    LOCK_MS,
    REMEMBERED_LIMIT_VALUES,
    REMEMBERED_MS,
    WINDOW_MS,
    FailureCounts,
)
from services.approval.storage.keys import LOCKOUTS, guard_key, wrong_values_key
from services.approval.storage.lockouts import LockoutStore
from shared.redis.access import make_client
from shared.rpc.messages import SHARED_SECRET
from tests.simulation.redis.database import Database
from tests.simulation.redis.lockout_script import LockoutScript
from tests.simulation.test_contract import AtOnce
from tests.support.clock import FakeClock

if TYPE_CHECKING:
    from tools.support.processes.redis import RedisServer

ADDRESS: Final = "203.0.113.7"
KEYS: Final = [guard_key(ADDRESS), wrong_values_key(ADDRESS), LOCKOUTS]


class Counted:
    """The actual rule."""

    def __init__(self) -> None:
        self._data = Database()

    def bring(self, now_ms: int, values: list[str], *, right_beside: bool) -> int:
        """Report wrong values; returns how long the attempt is locked out."""
        return self._run("fail", now_ms, values, int(right_beside))

    def succeed(self, now_ms: int) -> None:
        """Report only the right secret."""
        self._run("clear", now_ms, [], 0)

    def guard(self, now_ms: int) -> bytes | None:
        """Return the failures counted against the address."""
        self._data.forget_expired(now_ms)
        return self._data.texts.get(KEYS[0])

    def remembers(self, now_ms: int, value: str) -> bool:
        """Return whether a value is known to be wrong."""
        self._data.forget_expired(now_ms)
        known: dict[str, dict[str, int]] = msgspec.msgpack.decode(
            self._data.texts.get(KEYS[1], b" " * 16 + b"\x80")[16:]
        )
        return now_ms - known.get(SHARED_SECRET, {}).get(value, 0) < REMEMBERED_MS

    def _run(self, description: str, now_ms: int, values: list[str], beside: int) -> int:
        self._data.forget_expired(now_ms)
        bounds = (WINDOW_MS, FAILURES_LIMIT, LOCK_MS, REMEMBERED_MS, REMEMBERED_LIMIT_VALUES)
        args: list[str | int] = [
            description,
            *bounds,
            0,
            ADDRESS,
            beside,
            SHARED_SECRET,
            len(values),
            *values,
        ]
        return LockoutScript(self._data, KEYS, cast("Any", args), now_ms).run()


class EachCounts:
    """The reference rule: each guess is a failure, and ten within a minute lock."""

    def __init__(self) -> None:
        self._failures = 0
        self._since = 0
        self._until = 0

    def left(self, now_ms: int) -> int:
        """Return how many guesses may still be answered."""
        if now_ms < self._until:
            return 0
        fresh = now_ms - self._since >= WINDOW_MS
        return FAILURES_LIMIT - (0 if fresh else self._failures)

    def fail(self, now_ms: int) -> None:
        """Count a guess that was answered."""
        if now_ms - self._since >= WINDOW_MS:
            self._failures, self._since = 0, now_ms
        self._failures += 1
        if self._failures >= FAILURES_LIMIT:
            self.lock(now_ms)

    def lock(self, now_ms: int) -> None:
        """Start a lock-out."""
        self._failures, self._since, self._until = 0, now_ms, now_ms + LOCK_MS

    def succeed(self, now_ms: int) -> None:
        """Clear the failures, unless locked."""
        if now_ms >= self._until:
            self._failures, self._since = 0, 0


VALUES = st.lists(st.integers(0, 30).map(str), min_size=1, max_size=2, unique=True)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wrong"), VALUES),
        st.tuples(st.just("wrong"), VALUES),
        st.tuples(st.just("right beside"), VALUES),
        st.tuples(st.just("success"), st.none()),
        st.tuples(
            st.just("pass"),
            st.sampled_from([1, WINDOW_MS // 7, WINDOW_MS, LOCK_MS - 1, LOCK_MS, REMEMBERED_MS]),
        ),
    ),
    max_size=120,
)


@settings(max_examples=600, deadline=None)
@given(steps=STEPS)
def test_no_guess_is_answered_that_would_not_be_if_each_counted(steps: list[Any]) -> None:
    rule, bound = Counted(), EachCounts()
    now_ms = 1_700_000_000_000
    for label, given_now in steps:
        if label == "pass":
            now_ms += given_now
        elif label == "success":
            rule.succeed(now_ms)
            bound.succeed(now_ms)
        else:
            beside = label == "right beside"
            new = [value for value in given_now if not rule.remembers(now_ms, value)]
            before = rule.guard(now_ms)
            locked_ms = rule.bring(now_ms, given_now, right_beside=beside)
            if not new:
                assert rule.guard(now_ms) == before, "a known value counts for nothing"
                assert bool(locked_ms) == (bound.left(now_ms) == 0)
            elif locked_ms:
                assert not any(rule.remembers(now_ms, value) for value in new)
                if bound.left(now_ms):
                    assert bound.left(now_ms) < len(new) + beside
                    bound.lock(now_ms)
            else:
                assert bound.left(now_ms) >= len(new) + beside
                for _ in new:
                    bound.fail(now_ms)


@settings(max_examples=200, deadline=None)
@given(
    tries=st.lists(st.integers(0, FAILURES_LIMIT - 2), max_size=300),
    pauses=st.lists(st.sampled_from([0, 1, WINDOW_MS // 9, WINDOW_MS]), max_size=300),
)
def test_repeats_of_fewer_values_than_lock_never_lock(tries: list[int], pauses: list[int]) -> None:
    rule = Counted()
    now_ms = 1_700_000_000_000
    for value, pause in zip(tries, pauses, strict=False):
        now_ms += pause
        assert rule.bring(now_ms, [str(value)], right_beside=False) == 0


async def test_the_script_counts_as_the_rule_here_does(redis_server: RedisServer) -> None:
    """Random attempts for three classes from two addresses, in Redis and in memory."""
    client = make_client(redis_server.approval_url, max_connections=1, timeout_seconds=5)
    real, simulated = (LockoutStore(item, FakeClock()) for item in (client, cast("Any", AtOnce())))
    chance = Random(7)
    try:
        for _ in range(400):
            address = chance.choice([ADDRESS, "2001:db8::/64"])
            if chance.random() < 0.1:
                cleared = chance.sample(["a", "b", "c"], 2)
                await real.clear(address, cleared)
                await simulated.clear(address, cleared)
            wrong = {
                name: [str(chance.randrange(20)) for _ in range(chance.randrange(1, 3))]
                for name in chance.sample(["a", "b", "c"], chance.randrange(1, 3))
            }
            beside = chance.random() < 0.2
            found = await real.count(address, wrong, right_beside=beside)
            expected = await simulated.count(address, wrong, right_beside=beside)
            assert bool(found) == bool(expected), (address, wrong, beside)
            held = await real.guarded(address), await simulated.guarded(address)
            assert _failures(held[0][0]) == _failures(held[1][0])
    finally:
        await client.aclose()


def _failures(guard: FailureCounts) -> dict[str, tuple[int, bool]]:
    return {
        name: (failures, until > 0) for name, (failures, _since, until) in guard._entries.items()
    }
