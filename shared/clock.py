"""Clocks as arguments: code that needs the time takes a Clock."""

from __future__ import annotations

import time
from functools import partial
from typing import Final, Protocol

NS_PER_MS: Final = 1_000_000

_CLOCK_ID: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """The two clocks that the services use."""

    def monotonic(self) -> float:
        """Return seconds that never go back and include time suspended."""
        ...

    def wall_ns(self) -> int:
        """Return nanoseconds since 1970."""
        ...


def remote_offset_ms(
    offset_ms: float | None, remote_ms: float, *, sent_ms: float, received_ms: float
) -> float:
    """Return the offset of another machine's clock from ours, after it has told its time.

    It showed `remote_ms` at some moment between sending and receiving, which bounds the offset.
    The earlier estimate (None: there is none) is kept while it lies within these bounds, so that a
    slow reply does not spoil what a fast one has shown. Otherwise the estimate is the lower bound:
    we never take the other clock to be later than it is, also if it was set back.
    """
    lowest, highest = remote_ms - received_ms, remote_ms - sent_ms
    return offset_ms if offset_ms is not None and lowest <= offset_ms <= highest else lowest


class SystemClock:
    """The clocks of this machine."""

    monotonic = staticmethod(partial(time.clock_gettime, _CLOCK_ID))
    """Return seconds since boot (CLOCK_BOOTTIME if available); read often, so without a frame."""
    wall_ns = staticmethod(time.time_ns)
    """Return nanoseconds since 1970; likewise."""
