"""When to end the run: Ctrl-C, SIGTERM, a closed terminal, or the parent gone."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


class StopRequested(Exception):
    """The run shall end."""


class StopSignals:
    """Notes that the run shall end. Under nohup neither the terminal nor the parent counts."""

    def __init__(self) -> None:
        self._signals = 0
        self._parent = os.getppid()
        self._attached = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number is not signal.SIGHUP or self._attached:
                signal.signal(number, self._note)

    def requested(self) -> bool:
        """Say whether the run shall end."""
        return self._signals > 0 or (self._attached and os.getppid() != self._parent)

    def hurry(self) -> bool:
        """Say whether it was asked for again, so that nothing more is waited for."""
        return self._signals > 1

    def heed(self) -> None:
        """Raise StopRequested when the run shall end."""
        if self.requested():
            raise StopRequested

    def _note(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._signals += 1
