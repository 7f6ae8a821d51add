"""Clocks as arguments: code that needs the time takes a Clock."""

from __future__ import annotations

import time
from typing import Final, Protocol

_CLOCK_ID: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """The two clocks that the services use."""

    def monotonic(self) -> float:
        """Return seconds that never go back and include time suspended."""
        ...

    def wall_ms(self) -> int:
        """Return milliseconds since 1970, as clients use in signatures."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def monotonic(self) -> float:
        """Return seconds since boot (CLOCK_BOOTTIME if available)."""
        return time.clock_gettime(_CLOCK_ID)

    def wall_ms(self) -> int:
        """Return milliseconds since 1970."""
        return time.time_ns() // 1_000_000
