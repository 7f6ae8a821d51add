"""Writes that would wait too long are rejected at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from services.approval.requests.write_limiter import PLACES, WAIT_SECONDS, WriteLimiter
from shared.rpc.responder import BUSY
from tests.support.clock import FakeClock, run_virtual

if TYPE_CHECKING:
    from shared.rpc.responder import Reply


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


async def replied(reply: Reply | asyncio.Future[Reply]) -> Reply:
    return await reply if isinstance(reply, asyncio.Future) else reply


async def slowed(places: WriteLimiter, work: Work) -> None:
    """Return a limiter that has measured this work's duration."""
    for _ in range(10):
        await asyncio.gather(*(replied(places.reply(work)) for _ in range(PLACES)))


def test_so_many_are_carried_out_at_once_and_the_others_in_their_turn() -> None:
    async def scenario(_clock: FakeClock) -> None:
        places, work = WriteLimiter(), Work(0.01)
        replies = [places.reply(work) for _ in range(10 * PLACES)]
        assert places.under_way == 10 * PLACES
        assert [await replied(reply) for reply in replies] == [b"done"] * 10 * PLACES
        assert work.max_at_once == PLACES
        await asyncio.sleep(0)
        assert places.under_way == 0

    run_virtual(scenario)


def test_what_would_wait_too_long_is_busy_at_once() -> None:
    async def scenario(clock: FakeClock) -> None:
        places, work = WriteLimiter(), Work(0.2)
        await slowed(places, work)
        began = clock.monotonic()
        replies = [places.reply(work) for _ in range(10 * PLACES)]
        busy = [reply for reply in replies if reply is BUSY]
        assert busy
        taken = [await replied(reply) for reply in replies if reply is not BUSY]
        assert taken == [b"done"] * len(taken)
        assert len(taken) >= PLACES
        assert clock.monotonic() - began <= WAIT_SECONDS + 2 * work.seconds

    run_virtual(scenario)


def test_it_fills_its_slots_however_slow_it_was() -> None:
    async def scenario(_clock: FakeClock) -> None:
        places, work = WriteLimiter(), Work(10 * WAIT_SECONDS)
        await slowed(places, work)
        replies = [places.reply(work) for _ in range(PLACES + 1)]
        assert [reply is BUSY for reply in replies] == [False] * PLACES + [True]
        await asyncio.gather(*map(replied, replies))

    run_virtual(scenario)


def test_a_request_that_waited_too_long_is_busy_and_has_no_effect() -> None:
    async def scenario(clock: FakeClock) -> None:
        places, slow, late = WriteLimiter(), Work(10 * WAIT_SECONDS), Work(0)
        taken = [places.reply(slow) for _ in range(PLACES)]
        began = clock.monotonic()
        assert await replied(places.reply(late)) is BUSY
        assert clock.monotonic() - began == WAIT_SECONDS
        assert late.max_at_once == 0
        await asyncio.gather(*map(replied, taken))

    run_virtual(scenario)


def test_it_is_quick_again_once_the_work_is() -> None:
    async def scenario(_clock: FakeClock) -> None:
        places = WriteLimiter()
        await slowed(places, Work(0.5))
        await slowed(places, Work(0.001))
        replies = [await replied(places.reply(Work(0.001))) for _ in range(10 * PLACES)]
        assert BUSY not in replies

    run_virtual(scenario)


def test_work_that_fails_or_is_cancelled_releases_its_slot() -> None:
    async def failing() -> Reply:
        raise ValueError

    async def scenario(_clock: FakeClock) -> None:
        places = WriteLimiter()
        replies = [places.reply(failing) for _ in range(PLACES)]
        replies += [places.reply(Work(9)) for _ in range(PLACES)]
        await asyncio.sleep(0.01)
        for reply in replies[PLACES:]:
            assert isinstance(reply, asyncio.Future)
            reply.cancel()
        await asyncio.gather(*map(replied, replies), return_exceptions=True)
        assert places.under_way == 0
        assert await replied(places.reply(Work(0))) == b"done"

    run_virtual(scenario)
