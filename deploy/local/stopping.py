"""When to stop: Ctrl-C, SIGTERM, a closed terminal, or the exit of the parent process."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


class StopRequested(Exception):
    """The run must stop."""


class StopSignals:
    """Records stop signals. Under nohup, the terminal and the parent are ignored."""

    def __init__(self) -> None:
        self._signals = 0
        self._parent = os.getppid()
        self._attached = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number is not signal.SIGHUP or self._attached:
                signal.signal(number, self._note)

    def requested(self) -> bool:
        """Return whether the run must stop."""
        return self._signals > 0 or (self._attached and os.getppid() != self._parent)

    def hurry(self) -> bool:
        """Return whether a second signal asked to stop without waiting."""
        return self._signals > 1

    def check(self) -> None:
        """Raise StopRequested if the run must stop."""
        if self.requested():
            raise StopRequested

    def _note(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._signals += 1
