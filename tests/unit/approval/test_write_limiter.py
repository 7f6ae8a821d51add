"""Writes wait in fair shares; those that would wait too long are rejected at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from services.approval.metrics import Metrics
from services.approval.requests.write_limiter import (
    SLOTS,
    WAIT_SECONDS,
    Slots,
    WriteKind,
    WriteLimiter,
)
from shared.rpc.responder import BUSY
from tests.support.clock import FakeClock, run_virtual

if TYPE_CHECKING:
    from shared.rpc.responder import Reply

REQUEST = WriteKind.REQUEST
TOTAL, PER_CLIENT = SLOTS[REQUEST]


class Work:
    """Takes time; counts concurrent executions."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.at_once = 0
        self.max_at_once = 0

    async def __call__(self) -> Reply:
        self.at_once += 1
        self.max_at_once = max(self.max_at_once, self.at_once)
        await asyncio.sleep(self.seconds)
        self.at_once -= 1
        return b"done"


class Limiter:
    """A limiter, with what its metrics say about pairing requests."""

    def __init__(self, **options: Any) -> None:
        self.metrics = Metrics()
        self.limiter = WriteLimiter(self.metrics, **options)

    def ask(
        self, client: str, work: Work, kind: WriteKind = REQUEST
    ) -> Reply | asyncio.Future[Reply]:
        return self.limiter.reply(kind, client, work)

    async def slowed(self, work: Work, kind: WriteKind = REQUEST) -> None:
        """Let it measure how long this work takes."""
        for _ in range(30):
            await replied(self.ask("somebody", work, kind))

    def waiting(self, kind: WriteKind = REQUEST) -> float | None:
        return self.metrics.registry.get_sample_value(
            "latchkey_approval_writes_waiting", {"kind": kind}
        )

    def dropped(self, reason: str, kind: WriteKind = REQUEST) -> float | None:
        return self.metrics.registry.get_sample_value(
            "latchkey_approval_writes_dropped_total", {"kind": kind, "reason": reason}
        )


async def replied(reply: Reply | asyncio.Future[Reply]) -> Reply:
    return await reply if isinstance(reply, asyncio.Future) else reply


async def all_replied(replies: list[Reply | asyncio.Future[Reply]]) -> list[Reply]:
    return await asyncio.gather(*map(replied, replies))


class TestSlots:
    def test_a_limited_number_of_writes_run_at_once(self) -> None:
        async def scenario(_clock: FakeClock) -> None:
            here, work = Limiter(), Work(0.01)
            replies = [here.ask(f"client {number}", work) for number in range(10 * TOTAL)]
            assert here.limiter.under_way == 10 * TOTAL
            assert here.waiting() == 9 * TOTAL
            assert await all_replied(replies) == [b"done"] * 10 * TOTAL
            assert work.max_at_once == TOTAL
            await asyncio.sleep(0)
            assert here.limiter.under_way == here.waiting() == 0

        run_virtual(scenario)

    def test_one_client_leaves_slots_for_others(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            here, work = Limiter(), Work(10 * WAIT_SECONDS)
            flood = [here.ask("flood", work) for _ in range(10 * TOTAL)]
            await asyncio.sleep(0)
            assert work.at_once == PER_CLIENT
            began = clock.monotonic()
            others = [here.ask(f"other {n}", Work(0)) for n in range(TOTAL - PER_CLIENT)]
            assert await all_replied(others) == [b"done"] * len(others)
            assert clock.monotonic() == began, "they did not wait"
            await all_replied(flood)

        run_virtual(scenario)

    def test_kinds_have_slots_and_queues_of_their_own(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            here = Limiter()
            flood = [here.ask(f"{n}", Work(10 * WAIT_SECONDS)) for n in range(10 * TOTAL)]
            began = clock.monotonic()
            for kind in WriteKind:
                if kind is not REQUEST:
                    assert await replied(here.ask("0", Work(0), kind)) == b"done"
            assert clock.monotonic() == began
            await all_replied(flood)

        run_virtual(scenario)


class TestBusy:
    def test_what_would_wait_too_long_is_busy_at_once(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            here, work = Limiter(), Work(0.2)
            await here.slowed(work)
            began = clock.monotonic()
            replies = [here.ask(f"client {number}", work) for number in range(20 * TOTAL)]
            assert clock.monotonic() == began
            busy = [reply for reply in replies if reply is BUSY]
            assert len(busy) == here.dropped("expected-wait") > 0  # type: ignore[operator]
            taken = await all_replied([reply for reply in replies if reply is not BUSY])
            assert len(taken) <= TOTAL * (1 + WAIT_SECONDS / work.seconds)
            rounds = 1 + WAIT_SECONDS // work.seconds
            assert taken.count(b"done") >= TOTAL * rounds
            assert clock.monotonic() - began <= WAIT_SECONDS + work.seconds

        run_virtual(scenario)

    def test_it_fills_its_slots_however_slow_it_was(self) -> None:
        async def scenario(_clock: FakeClock) -> None:
            here, work = Limiter(), Work(10 * WAIT_SECONDS)
            await here.slowed(work)
            replies = [here.ask(f"client {number}", work) for number in range(TOTAL + 1)]
            assert [reply is BUSY for reply in replies] == [False] * TOTAL + [True]
            await all_replied(replies)

        run_virtual(scenario)

    def test_a_request_that_waited_too_long_is_busy_and_has_no_effect(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            here, slow, late = Limiter(), Work(10 * WAIT_SECONDS), Work(0)
            taken = [here.ask(f"client {number}", slow) for number in range(TOTAL)]
            await asyncio.sleep(WAIT_SECONDS / 2)
            first = here.ask("first", late)
            await asyncio.sleep(WAIT_SECONDS / 2)
            began = clock.monotonic()
            second = here.ask("second", late)
            assert await replied(first) is BUSY
            assert clock.monotonic() - began == WAIT_SECONDS / 2
            assert await replied(second) is BUSY
            assert clock.monotonic() - began == WAIT_SECONDS
            assert late.max_at_once == 0
            assert here.dropped("waited") == 2
            await all_replied(taken)

        run_virtual(scenario)

    def test_it_is_quick_again_once_the_work_is(self) -> None:
        async def scenario(_clock: FakeClock) -> None:
            here = Limiter()
            await here.slowed(Work(0.5))
            await here.slowed(Work(0.001))
            assert BUSY not in await all_replied([here.ask("a", Work(0.001)) for _ in range(80)])

        run_virtual(scenario)


class TestShares:
    def test_newcomers_are_served_in_turn_with_a_flood(self) -> None:
        """However many jobs of one client wait, others wait for one of them at most."""

        async def scenario(clock: FakeClock) -> None:
            here, work = Limiter(slots={REQUEST: Slots(2, 2)}), Work(0.1)
            flood = [here.ask("flood", work) for _ in range(200)]
            began = clock.monotonic()
            assert await replied(here.ask("newcomer", work)) == b"done"
            assert clock.monotonic() - began <= 3 * work.seconds
            assert BUSY in await all_replied(flood)

        run_virtual(scenario)

    def test_a_flood_is_busy_before_others_are(self) -> None:
        async def scenario(_clock: FakeClock) -> None:
            here, work = Limiter(), Work(0.1)
            await here.slowed(work)
            flood = [here.ask("flood", work) for _ in range(300)]
            others = [here.ask(f"other {number}", work) for number in range(TOTAL)]
            assert BUSY in flood
            assert await all_replied(others) == [b"done"] * TOTAL
            await all_replied(flood)

        run_virtual(scenario)

    def test_a_full_queue_drops_the_newest_of_the_client_with_the_most(self) -> None:
        async def scenario(_clock: FakeClock) -> None:
            here, work = Limiter(queue_limit=4, slots={REQUEST: Slots(2, 1)}), Work(0.1)
            flood = [here.ask("flood", work) for _ in range(1 + 4)]
            assert here.ask("flood", work) is BUSY
            await asyncio.sleep(0)
            others = [here.ask(f"other {number}", work) for number in range(1 + 3)]
            assert here.waiting() == 4
            assert here.ask("one too many", work) is BUSY, "nobody holds more than it would"
            assert await all_replied(flood) == [b"done"] * 2 + [BUSY] * 3
            assert await all_replied(others) == [b"done"] * 4
            assert here.dropped("largest-share") == 5

        run_virtual(scenario)


class TestEnds:
    def test_work_that_fails_or_is_cancelled_releases_its_slot(self) -> None:
        async def failing() -> Reply:
            raise ValueError

        async def scenario(_clock: FakeClock) -> None:
            here = Limiter()
            replies = [here.limiter.reply(REQUEST, str(n), failing) for n in range(TOTAL)]
            replies += [here.ask(str(n), Work(9)) for n in range(TOTAL)]
            replies += [here.ask(str(n), Work(9)) for n in range(TOTAL)]
            await asyncio.sleep(0.01)
            for reply in replies[TOTAL:]:
                assert isinstance(reply, asyncio.Future)
                reply.cancel()
            await asyncio.gather(*map(replied, replies), return_exceptions=True)
            await asyncio.sleep(0)
            assert here.limiter.under_way == 0
            assert await replied(here.ask("next", Work(0))) == b"done"

        run_virtual(scenario)

    def test_the_error_of_work_that_had_to_wait_is_passed_on(self) -> None:
        async def failing() -> Reply:
            raise ValueError

        async def scenario(_clock: FakeClock) -> None:
            here = Limiter()
            slow = [here.ask(str(number), Work(0.1)) for number in range(TOTAL)]
            late = here.limiter.reply(REQUEST, "late", failing)
            assert isinstance(late, asyncio.Future)
            with pytest.raises(ValueError):
                await late
            await all_replied(slow)

        run_virtual(scenario)

    def test_work_cancelled_in_the_turn_in_which_a_slot_is_freed_is_not_started(self) -> None:
        async def scenario(_clock: FakeClock) -> None:
            here, late = Limiter(slots={REQUEST: Slots(1, 1)}), Work(0)
            first = here.ask("first", Work(0.1))
            waiting = here.ask("second", late)
            assert isinstance(first, asyncio.Future)
            assert isinstance(waiting, asyncio.Future)
            first.cancel()
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(first, waiting, return_exceptions=True)
            await asyncio.sleep(0)
            assert late.max_at_once == 0
            assert here.limiter.under_way == 0

        run_virtual(scenario)
