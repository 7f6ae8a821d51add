"""The servers' processes on this machine: CPU, memory, descriptors (Linux /proc)."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tools.support.processes.process_table import descendants

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tools.load.server.machine import OtherUse

PROC: Final = Path("/proc")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_LISTENING: Final = "0A"
_ROLES: Final = (
    ("services.gateway", "gateway"),
    ("services.approval", "approval"),
    ("redis-server", "redis"),
)


@dataclass(frozen=True, slots=True)
class Watched:
    """A process and its role."""

    role: str
    pid: int


class Sample(NamedTuple):
    """State of a process at a time: CPU user and system, resident memory."""

    at: float
    cpu_seconds: float
    rss_bytes: int
    descriptors: int
    threads: int


def sample(pid: int, at: float) -> Sample | None:
    """Sample a process; None if it does not exist or is not accessible."""
    here = PROC / str(pid)
    try:
        # The name, the second field, is in brackets and may contain anything.
        fields = (here / "stat").read_text(errors="replace").rpartition(")")[2].split()
        descriptors = len(os.listdir(here / "fd"))  # noqa: PTH208  ten thousand names, no paths
        exact = cpu_seconds(pid)
    except OSError:
        return None
    return Sample(
        at=at,
        cpu_seconds=exact or (int(fields[11]) + int(fields[12])) / _TICKS,
        rss_bytes=int(fields[21]) * _PAGE,
        descriptors=descriptors,
        threads=int(fields[17]),
    )


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process's threads, to the nanosecond; 0 where unavailable."""
    total = 0
    for task in (PROC / str(pid) / "task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except OSError:  # the thread has ended, or the kernel does not count so exactly
            continue
    return total / 1e9


class Watch:
    """Samples of processes over a run."""

    def __init__(self, watched: Sequence[Watched]) -> None:
        self.watched = list(watched)
        self.samples: dict[int, list[Sample]] = {item.pid: [] for item in watched}
        self.others: OtherUse | None = None
        """What other programs used meanwhile; None if unknown."""

    def add(self, process: Watched) -> None:
        """Watch another process from now on."""
        self.watched.append(process)
        self.samples[process.pid] = []

    def take(self) -> float:
        """Sample all processes; returns the time."""
        at = time.monotonic()
        for pid, samples in self.samples.items():
            if (found := sample(pid, at)) is not None:
                samples.append(found)
        return at

    def busy_now(self) -> str:
        """Return the share of a core that each role has used since the previous sample."""
        shares: dict[str, float] = {}
        for item in self.watched:
            if len(found := self.samples[item.pid][-2:]) > 1 and found[1].at > found[0].at:
                used = (found[1].cpu_seconds - found[0].cpu_seconds) / (found[1].at - found[0].at)
                shares[item.role] = shares.get(item.role, 0.0) + used
        return ", ".join(f"{role} {share:.0%}" for role, share in shares.items())


def find_servers(port: int, approval_port: int | None) -> list[Watched]:
    """Find the processes behind these local ports, and the Redis started with them."""
    found = {pid: _role(pid) for pid in _listeners({port, approval_port or port})}
    services = {pid: role for pid, role in found.items() if role in {"gateway", "approval"}}
    for pid in {parent for pid in services if (parent := _parent(pid)) > 1}:
        for process in descendants(pid):
            if (role := _role(process.pid)) == "redis":
                services[process.pid] = role
    return [Watched(role, pid) for pid, role in sorted(services.items())]


def named(pids: Iterable[int]) -> list[Watched]:
    """Return the processes that the user asked to watch, with their names."""
    return [Watched(_role(pid) or str(pid), pid) for pid in pids]


def _listeners(ports: set[int]) -> set[int]:
    inodes = {f"socket:[{inode}]" for inode in _listening_inodes(ports)}
    found = set()
    for descriptor in PROC.glob("[0-9]*/fd/*") if inodes else ():
        try:
            if os.readlink(descriptor) in inodes:  # noqa: PTH115  its text is what counts
                found.add(int(descriptor.parts[2]))
        except OSError:
            continue
    return found


def _listening_inodes(ports: set[int]) -> set[str]:
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) in ports:
                found.add(fields[9])
    return found


def _role(pid: int) -> str:
    try:
        command = (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
    return next((role for text, role in _ROLES if text in command), "")


def _parent(pid: int) -> int:
    try:
        return int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
