"""The supervisor with stubs in place of services, in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from deploy.local.places import ROOT
from tools.support.processes.process_table import alive, descendants
from tools.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RUN: Final = """
import json, sys, time
from pathlib import Path
from deploy.local.errors import RunError
from deploy.local.programs.supervisor import Program
from deploy.local.programs.supervisor import Supervisor

directory, stages, seconds, failure = Path(sys.argv[1]), *map(json.loads, sys.argv[2:])
programs = [
    [
        Program(n, [sys.executable, "-c", code], {}, directory / f"{n}.log", n not in ("store", "other"))
        for n, code in stage.items()
    ]
    for stage in stages
]

def when_started(running):
    print("started", flush=True)
    if failure:
        raise RunError(failure)

try:
    asked = lambda: print("asked", flush=True)
    Supervisor(programs, when_started, on_request=asked, stop_seconds=seconds).run()
except RunError as error:
    print(type(error).__name__, error, flush=True)
print("ended", flush=True)
"""
WAITS: Final = "import signal; print('here', flush=True); signal.pause()"
IGNORES_TERM: Final = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + WAITS
HAS_A_CHILD: Final = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WAITS!r}])"
SAYS_WHEN: Final = (
    "import signal, sys, time\n"
    "def leave(*_): time.sleep(0.2); print(time.monotonic_ns()); sys.exit()\n"
    "signal.signal(signal.SIGTERM, leave); print('here', flush=True); signal.pause()\n"
)
STOP_SECONDS: Final = 30.0


class Supervised:
    """A supervisor and what it printed."""

    def __init__(self, process: subprocess.Popen[bytes], directory: Path) -> None:
        self.process: Final = process
        self._directory = directory

    @property
    def output(self) -> str:
        return (self._directory / "output").read_text()

    def log(self, name: str) -> str:
        file = self._directory / f"{name}.log"
        return file.read_text() if file.exists() else ""

    def wait_here(self, *names: str) -> None:
        """Wait until these programs run."""
        wait_until(lambda: all("here" in self.log(name) for name in names), "all are here")

    def wait_ended(self) -> str:
        """Wait until it has ended by itself; return its output."""
        assert self.process.wait(STOP_SECONDS) == 0
        return self.output


@contextmanager
def supervised(
    directory: Path, *stages: dict[str, str], stop_seconds: float = STOP_SECONDS, failure: str = ""
) -> Iterator[Supervised]:
    given = [json.dumps(part) for part in (stages, stop_seconds, failure)]
    with (
        (directory / "output").open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-c", RUN, directory, *given],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            yield Supervised(process, directory)
        finally:
            process.kill()


class TestStop:
    def test_the_last_stage_stops_first_and_has_ended_before_the_next_is_asked(
        self, tmp_path: Path
    ) -> None:
        stages = [{"store": SAYS_WHEN}, {"service": SAYS_WHEN}, {"a": SAYS_WHEN, "b": SAYS_WHEN}]
        with supervised(tmp_path, *stages) as run:
            run.wait_here("store", "service", "a", "b")
            run.process.send_signal(signal.SIGTERM)
            assert run.wait_ended().splitlines() == ["started", "asked", "ended"]
        ended = {name: int(run.log(name).split()[1]) for name in ("store", "service", "a", "b")}
        pause_ns = 200_000_000
        assert ended["service"] - max(ended["a"], ended["b"]) >= pause_ns
        assert ended["store"] - ended["service"] >= pause_ns

    def test_a_program_that_does_not_stop_in_time_is_killed(self, tmp_path: Path) -> None:
        with supervised(tmp_path, {"deaf": IGNORES_TERM}, stop_seconds=0.5) as run:
            run.wait_here("deaf")
            below = descendants(run.process.pid)
            run.process.send_signal(signal.SIGINT)
            run.wait_ended()
        assert not alive(below)

    def test_a_second_signal_does_not_wait(self, tmp_path: Path) -> None:
        with supervised(tmp_path, {"deaf": IGNORES_TERM}, stop_seconds=600) as run:
            run.wait_here("deaf")
            run.process.send_signal(signal.SIGINT)
            wait_until(lambda: "asked" in run.output, "it stops")
            with pytest.raises(subprocess.TimeoutExpired):
                run.process.wait(0.5)
            run.process.send_signal(signal.SIGINT)
            run.wait_ended()

    def test_a_signal_at_the_very_beginning_ends_all(self, tmp_path: Path) -> None:
        """Honcho alone fails then: it does not know the process ids yet."""
        with supervised(tmp_path, {"one": WAITS}, {"two": WAITS}) as run:
            wait_until(lambda: "started" in run.output, "it starts")
            below = descendants(run.process.pid)
            run.process.send_signal(signal.SIGINT)
            assert "Traceback" not in run.wait_ended()
        assert not alive(below)


class TestExit:
    def test_an_exit_ends_all_and_is_reported_with_its_status(self, tmp_path: Path) -> None:
        with supervised(tmp_path, {"one": WAITS}, {"two": "raise SystemExit('why')"}) as run:
            output = run.wait_ended()
            assert "ChildDied two exited with status 1" in output
            assert "  why\n" in output
            assert "asked" not in output

    def test_a_command_that_does_not_exist_is_reported(self, tmp_path: Path) -> None:
        code = "import os; os.execv('/no/such/program', ['x'])"
        with supervised(tmp_path, {"one": WAITS}, {"two": code}) as run:
            assert "No such file" in run.wait_ended()

    def test_all_services_report_their_settings(self, tmp_path: Path) -> None:
        slow = "import time; time.sleep(0.5); print('wrong', 2); raise SystemExit(78)"
        fast = "print('wrong', 1); raise SystemExit(78)"
        stages = [{"store": WAITS}, {"service": slow}, {"other": WAITS}, {"a": fast, "b": fast}]
        with supervised(tmp_path, *stages) as run:
            output = run.wait_ended()
            assert output.count("wrong 1") == output.count("wrong 2") == 1
            assert "other" not in output

    def test_an_error_after_the_start_ends_all(self, tmp_path: Path) -> None:
        with supervised(tmp_path, {"one": WAITS}, failure="not ready") as run:
            assert run.wait_ended().splitlines() == ["started", "RunError not ready", "ended"]


@pytest.mark.parametrize("code", [IGNORES_TERM, HAS_A_CHILD])
def test_nothing_is_left_when_the_supervisor_is_killed(tmp_path: Path, code: str) -> None:
    stages = [{"store": code}, {"service": code}, {"a": code, "b": code}]
    with supervised(tmp_path, *stages) as run:
        run.wait_here("store", "service", "a", "b")
        started = descendants(run.process.pid)
        assert len(started) >= 8
        run.process.kill()
        run.process.wait()
        wait_until(lambda: not alive(started), "all are gone")
