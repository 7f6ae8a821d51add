"""Whether other programs used too much of the machine for a measurement (Linux /proc)."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tools.load.server.processes import PROC
from tools.support.processes.process_table import descendants

if TYPE_CHECKING:
    from collections.abc import Iterable

BUSY_CORES: Final = 0.25
"""From here on, other programs change the results."""
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_IDLE: Final = (3, 4)
"""Columns of /proc/stat: idle and waiting for I/O."""
_COLUMNS: Final = 8
"""The columns user to steal; guests, after them, are included in user."""


@dataclass(frozen=True, slots=True)
class Used:
    """CPU seconds up to a time: of the whole machine, and of the measurement's processes."""

    at: float
    machine: float
    ours: float


class OtherPrograms:
    """Measures the CPU of other programs since its creation.

    `pids` are the measured processes besides this one; children count as well.
    """

    def __init__(self, pids: Iterable[int] = ()) -> None:
        self._pids = set(pids)
        self.began = time.monotonic()
        self._first = self._look()

    def cores(self) -> float | None:
        """Return the average number of cores others used; None if unknown."""
        last = self._look()
        if self._first is None or last is None:
            return None
        return others(self._first, last)

    def _look(self) -> Used | None:
        machine = machine_seconds()
        if machine is None:
            return None
        times = os.times()
        here = os.getpid()
        pids = (self._pids | {process.pid for process in descendants(here)}) - {here}
        ours = sum(times[:4]) + sum(map(process_seconds, pids))
        return Used(time.monotonic(), machine, ours)


def others(first: Used, last: Used) -> float:
    """Return the cores that were neither idle nor used by the measurement. Pure."""
    length = last.at - first.at
    if length <= 0:
        return 0.0
    return max(0.0, (last.machine - first.machine) - (last.ours - first.ours)) / length


def busy_text(cores: float | None, count: int | None = None) -> str:
    """Return a warning if others used too much; empty otherwise. Pure but for count."""
    if cores is None or cores < BUSY_CORES:
        return ""
    return (
        f"the machine was too busy: other programs used {cores:.1f} of its "
        f"{count or os.cpu_count() or 1} cores, so rates and latencies are not meaningful; "
        "measure again when it is idle"
    )


def machine_seconds() -> float | None:
    """Return the CPU seconds of all cores; None if unknown."""
    try:
        first = (PROC / "stat").read_text().partition("\n")[0].split()
    except OSError:
        return None
    ticks = [int(field) for field in first[1 : _COLUMNS + 1]]
    return sum(tick for column, tick in enumerate(ticks) if column not in _IDLE) / _TICKS


def process_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and its ended children; 0 if it is gone."""
    try:
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS
