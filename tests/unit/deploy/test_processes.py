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
from deploy.local.ports import listen
from deploy.local.processes import Child, Processes, Program
from tools.support.process_table import alive, descendants
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


def stub(code: str, log: Path) -> Program:
    return Program("stub", [sys.executable, "-c", code], {}, log)


def wait_for_line(log: Path, line: str = "here") -> None:
    wait_until(lambda: line in log.read_text().split("\n"), f"{line!r} in the log")


def wait_until_ended(child: Child) -> int:
    """Return the exit status."""
    wait_until(lambda: child.status() is not None, "the stub ended")
    status = child.status()
    assert status is not None
    return status


def start_waiting(processes: Processes, code: str, log: Path) -> Child:
    child = processes.start(stub(code, log))
    wait_for_line(log)
    return child


class TestStarting:
    def test_it_runs_in_the_root_with_its_own_environment_alone(
        self, processes: Processes, log: Path
    ) -> None:
        code = "import os; print(os.getcwd(), os.environ.get('HOME'), os.environ['ONLY'])"
        program = Program("stub", [sys.executable, "-c", code], {"ONLY": "this"}, log)
        child = processes.start(program)
        assert wait_until_ended(child) == 0
        assert log.read_text() == f"{ROOT} None this\n"

    def test_a_log_is_appended_to(self, processes: Processes, log: Path) -> None:
        for _ in range(2):
            wait_until_ended(processes.start(stub("print('line')", log)))
        assert log.read_text() == "line\nline\n"

    def test_what_cannot_be_started_says_so_in_its_log(
        self, processes: Processes, log: Path
    ) -> None:
        child = processes.start(Program("stub", ["/no/such/program"], {}, log))
        wait_until_ended(child)
        with pytest.raises(ChildDied, match="/no/such/program cannot be started: No such file"):
            child.require_alive()

    def test_a_listening_socket_is_handed_over_as_listen_fds_says(
        self, processes: Processes, log: Path
    ) -> None:
        code = (
            "import os, socket\n"
            "assert os.environ['LISTEN_PID'] == str(os.getpid())\n"
            "assert os.environ['LISTEN_FDS'] == '1'\n"
            "listener = socket.socket(fileno=3)\n"
            "print(listener.getsockname()[1])\n"
            "print(sorted(int(fd) for fd in os.listdir('/dev/fd')))\n"
        )
        with listen(0, "GATEWAY_PORT") as listener:
            child = processes.start(
                Program("stub", [sys.executable, "-c", code], {}, log, listen=listener)
            )
            assert wait_until_ended(child) == 0
            port, descriptors = log.read_text().splitlines()
            assert int(port) == listener.getsockname()[1]
        # 0, 1, 2 and 3; the fourth is the listing's own.
        assert descriptors == "[0, 1, 2, 3, 4]" or sys.platform != "linux"

    def test_without_a_socket_none_is_promised(self, processes: Processes, log: Path) -> None:
        child = processes.start(stub("import os; print('LISTEN_FDS' in os.environ)", log))
        assert wait_until_ended(child) == 0
        assert log.read_text() == "False\n"


class TestEnding:
    def test_a_death_names_the_program_and_shows_the_end_of_its_log(
        self, processes: Processes, log: Path
    ) -> None:
        child = processes.start(stub("print('the reason'); raise SystemExit(78)", log))
        wait_until_ended(child)
        with pytest.raises(ChildDied) as caught:
            processes.require_alive()
        assert "stub exited with status 78" in str(caught.value)
        assert f"{log}:\n  the reason" in str(caught.value)

    def test_a_death_by_signal_names_the_signal(self, processes: Processes, log: Path) -> None:
        child = start_waiting(processes, WAITS, log)
        os.kill(child.pid, signal.SIGKILL)
        wait_until_ended(child)
        with pytest.raises(ChildDied, match="was terminated by SIGKILL"):
            processes.require_alive()

    def test_stop_asks_first(self, processes: Processes, log: Path) -> None:
        child = start_waiting(processes, WAITS, log)
        processes.stop(child, seconds=10)
        assert child.status() == -signal.SIGTERM
        processes.require_alive()

    def test_stop_reaches_a_paused_program(self, processes: Processes, log: Path) -> None:
        child = start_waiting(processes, WAITS, log)
        child.pause()
        processes.stop(child, seconds=10)
        assert child.status() == -signal.SIGTERM

    def test_stop_kills_what_does_not_listen(self, processes: Processes, log: Path) -> None:
        child = start_waiting(processes, IGNORES_TERM, log)
        processes.stop(child, seconds=0)
        assert child.status() == -signal.SIGKILL

    def test_stop_can_be_told_to_hurry(self, processes: Processes, log: Path) -> None:
        child = start_waiting(processes, IGNORES_TERM, log)
        processes.stop(child, seconds=3600, hurry=lambda: True)
        assert child.status() == -signal.SIGKILL

    def test_kill_takes_along_what_the_program_started(
        self, processes: Processes, log: Path
    ) -> None:
        child = start_waiting(processes, HAS_A_CHILD, log)
        below = descendants(child.pid)
        assert below
        child.kill()
        wait_until(lambda: not alive(below), "the grandchild is gone")

    def test_a_program_outlives_the_thread_that_started_it(
        self, processes: Processes, log: Path
    ) -> None:
        thread = threading.Thread(target=start_waiting, args=(processes, WAITS, log))
        thread.start()
        thread.join()
        processes.require_alive()


class TestNothingIsLeft:
    def test_when_it_is_closed(self, log: Path) -> None:
        before = descendants(os.getpid())
        with Processes() as processes:
            for _ in range(3):
                processes.start(stub(IGNORES_TERM, log))
            started = descendants(os.getpid()) - before
            assert len(started) >= 4
        assert not alive(started)

    @pytest.mark.parametrize("code", [WAITS, IGNORES_TERM, HAS_A_CHILD])
    def test_when_the_runner_is_killed(self, code: str, log: Path) -> None:
        runner = (
            "import sys, signal\n"
            "from pathlib import Path\n"
            "from deploy.local.processes import Processes, Program\n"
            "processes = Processes()\n"
            "program = Program('stub', [sys.executable, '-c', sys.argv[1]], {}, Path(sys.argv[2]))\n"
            "processes.start(program)\n"
            "signal.pause()\n"
        )
        with subprocess.Popen([sys.executable, "-c", runner, code, log], cwd=ROOT) as process:
            wait_until(log.exists, "the log is there")
            wait_for_line(log)
            started = descendants(process.pid)
            assert started
            process.kill()
        wait_until(lambda: not alive(started), "all children are gone")

    def test_what_ended_by_itself_is_not_looked_for_any_more(self, log: Path) -> None:
        """Its process id may have been reused."""
        processes = Processes()
        child = processes.start(stub("print('here')", log))
        reader, writer = os.pipe()
        processes._guard_pipe, pipe = writer, processes._guard_pipe
        assert wait_until_ended(child) == 0
        assert os.read(reader, 100) == f"-{child.pid}\n".encode()
        processes._guard_pipe = pipe
        os.close(reader)
        os.close(writer)
        processes.close()
