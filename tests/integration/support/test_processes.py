"""Programs of tests: they can be disrupted, and none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from deploy.local.errors import ChildDied
from deploy.local.places import ROOT
from deploy.local.programs.supervisor import Program
from tools.support.processes.process_table import alive, descendants
from tools.support.processes.processes import Child, Processes
from tools.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WAITS = "import signal; print('here', flush=True); signal.pause()"
IGNORES_TERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + WAITS
HAS_A_CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WAITS!r}])"


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes() as started:
        yield started


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "stub.log"


def start_waiting(processes: Processes, code: str, log: Path) -> Child:
    child = processes.start(Program("stub", [sys.executable, "-c", code], {}, log))
    wait_until(lambda: "here" in log.read_text().split("\n"), "the stub waits")
    return child


def test_an_exit_names_the_program_and_shows_the_end_of_its_log(
    processes: Processes, log: Path
) -> None:
    code = "print('the reason'); raise SystemExit(78)"
    child = processes.start(Program("stub", [sys.executable, "-c", code], {}, log))
    wait_until(lambda: child.status() is not None, "the stub ended")
    with pytest.raises(ChildDied, match="stub exited with status 78") as caught:
        processes.require_alive()
    assert f"{log}:\n  the reason" in str(caught.value)


class TestStop:
    def test_it_asks_first_even_a_paused_program(self, processes: Processes, log: Path) -> None:
        child = start_waiting(processes, WAITS, log)
        child.pause()
        child.stop(seconds=10)
        assert child.status() == -signal.SIGTERM

    def test_it_kills_what_does_not_listen(self, processes: Processes, log: Path) -> None:
        child = start_waiting(processes, IGNORES_TERM, log)
        child.stop(seconds=0)
        assert child.status() == -signal.SIGKILL

    def test_kill_takes_along_what_the_program_started(
        self, processes: Processes, log: Path
    ) -> None:
        child = start_waiting(processes, HAS_A_CHILD, log)
        below = descendants(child.pid)
        assert below
        child.kill()
        wait_until(lambda: not alive(below), "the grandchild is gone")


class TestNothingIsLeft:
    def test_a_program_outlives_the_thread_that_started_it(
        self, processes: Processes, log: Path
    ) -> None:
        thread = threading.Thread(target=start_waiting, args=(processes, WAITS, log))
        thread.start()
        thread.join()
        processes.require_alive()

    def test_when_it_is_closed(self, log: Path) -> None:
        before = descendants(os.getpid())
        with Processes() as processes:
            for _ in range(3):
                start_waiting(processes, IGNORES_TERM, log)
            started = descendants(os.getpid()) - before
            assert len(started) == 4
        assert not alive(started)

    @pytest.mark.parametrize("code", [IGNORES_TERM, HAS_A_CHILD])
    def test_when_this_process_is_killed(self, code: str, log: Path) -> None:
        runner = (
            "import sys, signal\n"
            "from pathlib import Path\n"
            "from deploy.local.programs.supervisor import Program\n"
            "from tools.support.processes.processes import Processes\n"
            "processes = Processes()\n"
            "program = Program('stub', [sys.executable, '-c', sys.argv[1]], {}, Path(sys.argv[2]))\n"
            "processes.start(program)\n"
            "signal.pause()\n"
        )
        with subprocess.Popen([sys.executable, "-c", runner, code, log], cwd=ROOT) as process:
            wait_until(log.exists, "the log is there")
            wait_until(lambda: "here" in log.read_text(), "the stub waits")
            started = descendants(process.pid)
            assert started
            process.kill()
        wait_until(lambda: not alive(started), "all children are gone")

    def test_the_guard_forgets_what_has_ended_because_its_id_may_be_reused(self, log: Path) -> None:
        processes = Processes()
        child = processes.start(Program("stub", [sys.executable, "-c", ""], {}, log))
        reader, writer = os.pipe()
        processes._guard_pipe, pipe = writer, processes._guard_pipe
        wait_until(lambda: child.status() == 0, "the stub ended")
        assert os.read(reader, 100) == f"-{child.pid}\n".encode()
        processes._guard_pipe = pipe
        os.close(reader)
        os.close(writer)
        processes.close()
