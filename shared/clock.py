"""Time as an argument: whoever needs the time takes a Clock."""

from __future__ import annotations

import time
from typing import Final, Protocol

_CLOCK_ID: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """The two clocks the services use."""

    def monotonic(self) -> float:
        """Seconds that only move forward, also while the machine is suspended."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since 1970, as clients write them into signatures."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def monotonic(self) -> float:
        """Seconds since boot (CLOCK_BOOTTIME where there is one)."""
        return time.clock_gettime(_CLOCK_ID)

    def wall_ms(self) -> int:
        """Milliseconds since 1970."""
        return time.time_ns() // 1_000_000
