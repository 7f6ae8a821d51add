"""Whether a measurement had the machine to itself: CPU of other programs, and of other machines."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from tools.load.server.processes import PROC

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BUSY_CORES: Final = 0.25
"""From here on, other programs change the results."""
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PROGRAMS: Final = (0, 1, 2)
"""Columns of /proc/stat: user, nice, system. Interrupts belong to no program; under load most of
them are the packets of the measurement itself."""
_STEAL: Final = 7


class Process(NamedTuple):
    """A process: its parent, and the CPU seconds of itself and its ended children."""

    parent: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Used:
    """CPU seconds up to a time: of all programs, of the measurement's, and of others that we see."""

    at: float
    programs: float
    ours: float
    others: float
    stolen: float
    """Time in which the machine was ready to run, but the hypervisor ran other machines."""


@dataclass(frozen=True, slots=True)
class OtherUse:
    """Cores that were not available to a measurement, on average."""

    programs: float
    """Used by other programs of this machine."""
    stolen: float = 0.0
    """Withheld by the hypervisor."""

    @property
    def is_busy(self) -> bool:
        """Whether this changes the results."""
        return self.programs + self.stolen >= BUSY_CORES


class OtherPrograms:
    """Measures the CPU of other programs since its creation.

    `pids` are the measured processes besides this one; children count as well.
    """

    def __init__(self, pids: Iterable[int] = ()) -> None:
        self._pids = set(pids)
        self._first = self._look()

    def use(self) -> OtherUse | None:
        """Return the use by others on average; None if unknown."""
        last = self._look()
        if self._first is None or last is None:
            return None
        return other_use(self._first, last)

    def _look(self) -> Used | None:
        machine = machine_seconds()
        if machine is None:
            return None
        programs, stolen = machine
        processes = all_processes()
        ours = belonging(processes, os.getpid(), self._pids)
        return Used(
            at=time.monotonic(),
            programs=programs,
            ours=sum(processes[pid].seconds for pid in ours),
            others=sum(item.seconds for pid, item in processes.items() if pid not in ours),
            stolen=stolen,
        )


def other_use(first: Used, last: Used) -> OtherUse:
    """Return what others used between two times. Pure.

    The kernel's total includes programs that are not visible here, in other containers, but is
    less exact; so is the sum of those that are visible if some of them have ended.
    """
    length = last.at - first.at
    if length <= 0:
        return OtherUse(0.0)
    not_ours = (last.programs - first.programs) - (last.ours - first.ours)
    seen = last.others - first.others
    return OtherUse(
        max(0.0, not_ours, seen) / length, max(0.0, last.stolen - first.stolen) / length
    )


def busy_text(use: OtherUse | None, count: int | None = None) -> str:
    """Return a warning if others used too much; empty otherwise. Pure but for count."""
    if use is None or not use.is_busy:
        return ""
    return (
        f"the machine was too busy: {use_text(use, count or os.cpu_count() or 1)}, so rates and "
        "latencies are not meaningful; measure again when it is idle"
    )


def use_text(use: OtherUse, count: int) -> str:
    """Describe what others used of this many cores."""
    withheld = f", and the hypervisor withheld {use.stolen:.1f}" if use.stolen >= 0.05 else ""
    return f"other programs used {use.programs:.1f} of its {count} cores{withheld}"


def machine_seconds() -> tuple[float, float] | None:
    """Return the CPU seconds of all programs, and those stolen; None if unknown."""
    try:
        first = (PROC / "stat").read_text().partition("\n")[0].split()
    except OSError:
        return None
    ticks = [int(field) for field in first[1:]]
    stolen = ticks[_STEAL] if len(ticks) > _STEAL else 0
    return sum(ticks[column] for column in _PROGRAMS) / _TICKS, stolen / _TICKS


def all_processes() -> dict[int, Process]:
    """Return all processes that are visible, also those that ended and wait for their parents."""
    found = {}
    for entry in os.scandir(PROC):
        if entry.name.isdigit() and (process := _process(int(entry.name))) is not None:
            found[int(entry.name)] = process
    return found


def belonging(processes: Mapping[int, Process], root: int, more: Iterable[int]) -> set[int]:
    """Return a process with all its descendants, and further processes. Pure."""
    children: dict[int, list[int]] = {}
    for pid, process in processes.items():
        children.setdefault(process.parent, []).append(pid)
    found = {pid for pid in more if pid in processes}
    parents = [root]
    while parents:
        pid = parents.pop()
        if pid in processes:
            found.add(pid)
        parents.extend(children.get(pid, ()))
    return found


def process_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and its ended children; 0 if it is gone."""
    process = _process(pid)
    return 0.0 if process is None else process.seconds


def _process(pid: int) -> Process | None:
    try:
        # The name, the second field, is in brackets and may contain anything.
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return Process(int(fields[1]), sum(map(int, fields[11:15])) / _TICKS)
