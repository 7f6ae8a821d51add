"""Whether the machine had time for a measurement: what other programs used of it (Linux /proc)."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tools.load.processes import PROC
from tools.support.process_table import descendants

if TYPE_CHECKING:
    from collections.abc import Iterable

BUSY_CORES: Final = 0.25
"""From here on, what other programs use changes what is measured."""
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_IDLE: Final = (3, 4)
"""Idle and waiting for I/O, among the columns of /proc/stat."""
_COLUMNS: Final = 8
"""User to steal; guests, behind them, are counted in user."""


@dataclass(frozen=True, slots=True)
class Used:
    """CPU seconds until a time: of the whole machine, of the measurement's processes."""

    at: float
    machine: float
    ours: float


class OtherPrograms:
    """Counts, from its making on, what others used. `pids`: ours, beside this process's own.

    What it and its children start is ours as well.
    """

    def __init__(self, pids: Iterable[int] = ()) -> None:
        self._pids = set(pids)
        self.began = time.monotonic()
        self._first = self._look()

    def cores(self) -> float | None:
        """Return how many cores others used on average; None where that cannot be seen."""
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
    """Return the cores that neither idled nor worked for the measurement. Pure."""
    length = last.at - first.at
    if length <= 0:
        return 0.0
    return max(0.0, (last.machine - first.machine) - (last.ours - first.ours)) / length


def busy_text(cores: float | None, count: int | None = None) -> str:
    """Return what to say where others used too much; empty where they did not. Pure but for count."""
    if cores is None or cores < BUSY_CORES:
        return ""
    return (
        f"the machine was too busy: other programs used {cores:.1f} of its "
        f"{count or os.cpu_count() or 1} cores meanwhile, so rates and latencies mean nothing; "
        "measure again when it is quiet"
    )


def machine_seconds() -> float | None:
    """Return the CPU seconds that all cores have worked; None where that cannot be seen."""
    try:
        first = (PROC / "stat").read_text().partition("\n")[0].split()
    except OSError:
        return None
    ticks = [int(field) for field in first[1 : _COLUMNS + 1]]
    return sum(tick for column, tick in enumerate(ticks) if column not in _IDLE) / _TICKS


def process_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and of its children that have ended; 0 where it is gone."""
    try:
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS
