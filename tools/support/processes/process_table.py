"""The machine's processes, to show that nothing was left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """One process; the start time distinguishes it from a later one with the same id."""

    pid: int
    started: str


def descendants(pid: int) -> set[Process]:
    """Return all descendants of a process."""
    children: dict[int, list[Process]] = {}
    for process, parent in _table().items():
        children.setdefault(parent, []).append(process)
    found: set[Process] = set()
    parents = [pid]
    while parents:
        for process in children.get(parents.pop(), []):
            found.add(process)
            parents.append(process.pid)
    return found


def alive(processes: set[Process]) -> set[Process]:
    """Return those that are still running."""
    return processes & _table().keys()


def _table() -> dict[Process, int]:
    """Return each process that is not a zombie, with its parent's id."""
    return _from_proc() if sys.platform == "linux" else _from_ps()


def _from_proc() -> dict[Process, int]:
    found: dict[Process, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, the second field, is in brackets and may contain anything.
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, parent, started = fields[0], int(fields[1]), fields[19]
        if state not in {"Z", "X"}:
            found[Process(int(stat.parent.name), started)] = parent
    return found


def _from_ps() -> dict[Process, int]:
    output = subprocess.run(
        ["/bin/ps", "-axo", "pid=,ppid=,state=,lstart="],
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    rows = [line.split(maxsplit=3) for line in output.splitlines()]
    return {
        Process(int(pid), started): int(parent)
        for pid, parent, state, started in rows
        if not state.startswith("Z")
    }


def forget_peak_memory(pid: int) -> int:
    """Let the most memory of a process be what it has now, and return that (Linux)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak_memory_bytes(pid)


def peak_memory_bytes(pid: int) -> int:
    """Return the most memory that a process has had at once."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
