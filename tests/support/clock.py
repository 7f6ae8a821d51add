"""Time that moves only when a test says so, and an event loop that runs on it."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

T = TypeVar("T")


class FakeClock:
    """A `shared.clock.Clock` that tests advance."""

    def __init__(self, monotonic: float = 1_000.0, wall_ms: int = 1_700_000_000_000) -> None:
        """Start at a time that is not zero."""
        self._monotonic = monotonic
        self._wall_ms = float(wall_ms)

    def monotonic(self) -> float:
        """Seconds since some moment."""
        return self._monotonic

    def wall_ms(self) -> int:
        """Milliseconds since 1970."""
        return round(self._wall_ms)

    def wall_ns(self) -> int:
        """Nanoseconds since 1970."""
        return self.wall_ms() * 1_000_000

    def advance(self, seconds: float) -> None:
        """Advance both clocks."""
        self._monotonic += seconds
        self._wall_ms += seconds * 1000.0

    def step_wall(self, seconds: float) -> None:
        """Step only the wall clock, as an administrator or NTP would."""
        self._wall_ms += seconds * 1000.0


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop on a FakeClock: instead of sleeping, it advances the clock."""

    def __init__(self, clock: FakeClock) -> None:
        """Take its time from `clock`."""
        super().__init__(_Skipping(clock))
        self._fake_clock = clock

    def time(self) -> float:
        """Seconds of the fake clock."""
        return self._fake_clock.monotonic()


def run_virtual(
    scenario: Callable[[FakeClock], Coroutine[Any, Any, T]], clock: FakeClock | None = None
) -> T:
    """Run a scenario in virtual time; raises RuntimeError if it waits forever."""
    clock = clock or FakeClock()
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(clock)) as runner:
        return runner.run(scenario(clock))


async def turns(count: int = 8) -> None:
    """Run a few loop iterations without advancing time."""
    for _ in range(count):
        await asyncio.sleep(0)


async def outcome(awaitable: Awaitable[T]) -> T | Exception:
    """Await, and return the exception instead of raising it."""
    try:
        return await awaitable
    except Exception as error:  # noqa: BLE001  it is what the test looks at
        return error


class _Skipping(selectors.DefaultSelector):
    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            msg = "everything waits and nothing will happen"
            raise RuntimeError(msg)
        self._clock.advance(timeout)
        return ready
