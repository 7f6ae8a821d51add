"""A run of `make run` on free ports, as tests start it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from deploy.local.places import ROOT
from deploy.local.ports import Reservation
from deploy.local.programs.readiness import ask_ready
from tools.support.processes.process_table import Process, descendants
from tools.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


READY_SECONDS: Final = 120.0
STOP_SECONDS: Final = 30.0
PROGRAMS: Final = ("redis", "approval", "gateway-1", "gateway-2")
PROGRAM: Final = ("-m", "deploy.local")
PROCESSES: Final = 2 * len(PROGRAMS)  # honcho has a process for each


class Runner:
    """One run of `python -m deploy.local` and its output."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path, data: Path) -> None:
        self.process: Final = process
        self.data: Final = data
        self._output = output

    @property
    def output(self) -> str:
        """What it printed so far."""
        return self._output.read_text()

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def wait_ready(self) -> set[Process]:
        """Wait until it reports readiness; returns its processes."""
        wait_until(
            lambda: "ready" in self.output or self.has_ended,
            "the run is ready",
            seconds=READY_SECONDS,
        )
        assert not self.has_ended, self.output
        return descendants(self.process.pid)

    def pid(self, name: str) -> int:
        """Return the process id of a program."""
        parents = {
            p.pid: below for p in descendants(self.process.pid) if (below := descendants(p.pid))
        }
        # In the order of their start. Process ids rise, and wrap around at the maximum.
        in_order = sorted(parents, key=lambda pid: (pid < self.process.pid, pid))
        (program,) = parents[in_order[PROGRAMS.index(name)]]
        return program.pid

    def wait_ended(self) -> int:
        """Wait until it has exited; returns its exit status."""
        return self.process.wait(STOP_SECONDS)

    def port(self, scheme: str) -> int:
        """Return the port of the address it printed."""
        found = re.search(rf"{scheme}://127\.0\.0\.1:(\d+)", self.output)
        assert found is not None, self.output
        return int(found[1])

    @property
    def gateway_port(self) -> int:
        return self.port("ws")

    @property
    def approval_port(self) -> int:
        return self.port("http")


@contextmanager
def running(
    tmp_path: Path, *, program: Sequence[str] = PROGRAM, **environ: str
) -> Iterator[Runner]:
    """Start the runner on free ports with its own data directory.

    `program` are the arguments for Python.
    """
    data = tmp_path / "data"
    output = tmp_path / "output"
    passed = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    settings = {"GATEWAY_PORT": "0", "APPROVAL_PORT": "0", "DATA_DIR": str(data)}
    with (
        output.open("wb") as file,
        subprocess.Popen(
            [sys.executable, *program],
            cwd=ROOT,
            env={**passed, **settings, **environ},
            stdout=file,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            yield Runner(process, output, data)
        finally:
            process.kill()


def require_free(*ports: int) -> None:
    """Fail if a process still listens."""
    for port in ports:
        Reservation(port).release()


def ready_gateways(port: int) -> set[str]:
    """Return the boot ids of all gateways behind a port; each connection reaches any of them."""
    answers = [answer for _ in range(10) for answer in ask_ready(port, at_once=8)]
    assert all(answer.ready for answer in answers)
    return {answer.boot_id for answer in answers}
