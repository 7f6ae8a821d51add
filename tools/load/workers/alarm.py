"""A timer of an event loop that is precise to microseconds where the system allows it."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_MONOTONIC: Final = 1
_ABSOLUTE: Final = 1
_EXPIRATIONS_BYTES: Final = 8


class Alarm:
    """Calls back once at a time of time.monotonic(); setting it again replaces the time.

    uvloop's own timers have a resolution of 1 ms. On Linux this is a timer of the kernel (timerfd),
    whose expiry wakes the loop as a socket does, without polling; elsewhere, the loop's timer.
    """

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None
        self._timer = _kernel_timer()
        if self._timer is not None:
            self._loop.add_reader(self._timer, self._expired)

    def set(self, at: float) -> None:
        """Call back at this time, or in the next iteration of the loop if it has passed."""
        if self._timer is None:
            self.cancel()
            self._handle = self._loop.call_later(max(0.0, at - time.monotonic()), self._callback)
        else:
            _set(self._timer, at)

    def cancel(self) -> None:
        """Do not call back."""
        if self._timer is not None:
            _set(self._timer, 0.0)
        elif self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def close(self) -> None:
        """Release the timer."""
        self.cancel()
        if self._timer is not None:
            self._loop.remove_reader(self._timer)
            os.close(self._timer)
            self._timer = None

    def _expired(self) -> None:
        assert self._timer is not None
        with contextlib.suppress(BlockingIOError):  # it was set again meanwhile
            os.read(self._timer, _EXPIRATIONS_BYTES)
            self._callback()


def _kernel_timer() -> int | None:
    """Return a timerfd, None where there is none; Python itself offers it from 3.13 on."""
    if sys.platform != "linux":
        return None
    descriptor: int = _libc.timerfd_create(_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    return descriptor if descriptor >= 0 else None


def _set(timer: int, at: float) -> None:
    """Set the absolute time; 0 stops the timer."""
    seconds = int(at)
    # Interval and time, each in seconds and nanoseconds.
    spec = (ctypes.c_long * 4)(0, 0, seconds, int((at - seconds) * 1e9))
    if _libc.timerfd_settime(timer, _ABSOLUTE, spec, None):
        raise OSError(ctypes.get_errno(), "timerfd_settime")


_libc: Final = ctypes.CDLL(None, use_errno=True)
