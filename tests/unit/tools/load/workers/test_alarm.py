"""The precise timer of an open loop, on the workers' event loop."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

import pytest
import uvloop

from tools.load.workers import alarm
from tools.load.workers.alarm import Alarm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PRECISE = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has timerfd")


def delays(waits: Sequence[float]) -> list[float]:
    """Set an alarm for each wait, one after another; return how late each was, in seconds."""

    async def run() -> list[float]:
        rang: asyncio.Queue[float] = asyncio.Queue()
        timer = Alarm(lambda: rang.put_nowait(time.monotonic()))
        found = []
        for wait in waits:
            at = time.monotonic() + wait
            timer.set(at)
            async with asyncio.timeout(5):
                found.append(await rang.get() - at)
        timer.close()
        return found

    return uvloop.run(run())


def count(steps: Callable[[Alarm], None], seconds: float = 0.1) -> int:
    """Return how often an alarm rang within this time after these steps."""

    async def run() -> int:
        rang = 0

        def ring() -> None:
            nonlocal rang
            rang += 1

        timer = Alarm(ring)
        steps(timer)
        await asyncio.sleep(seconds)
        timer.close()
        return rang

    return uvloop.run(run())


@PRECISE
def test_it_is_never_early_and_finer_than_a_millisecond() -> None:
    """The loop's own timers round to whole milliseconds: half of these would be early."""
    late = delays([0.001 + number / 13_000 for number in range(40)])
    assert min(late) >= 0
    assert sorted(late)[len(late) // 4] < 0.0005


def test_a_time_that_has_passed_rings_at_once() -> None:
    assert count(lambda timer: timer.set(time.monotonic() - 1)) == 1


def test_setting_it_again_replaces_the_time() -> None:
    def twice(timer: Alarm) -> None:
        timer.set(time.monotonic() + 0.01)
        timer.set(time.monotonic() + 0.02)

    assert count(twice) == 1


def test_a_cancelled_alarm_does_not_ring() -> None:
    def cancelled(timer: Alarm) -> None:
        timer.set(time.monotonic() + 0.01)
        timer.cancel()

    assert count(cancelled) == 0


def test_without_timers_of_the_kernel_the_loops_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alarm, "_kernel_timer", lambda: None)
    assert count(lambda timer: timer.set(time.monotonic() + 0.01)) == 1
    assert len(delays([0.003, 0.001])) == 2
