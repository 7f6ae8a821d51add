"""Runs programs with honcho until one of them exits or a signal asks to stop.

honcho starts the programs, each in its own session, waits for them, and ends all when one exits.
Added here: the order in which they stop, a deadline for it, and that no program outlives a killed
supervisor (docs/decisions/0026-honcho-runs-the-programs.md).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shlex
import signal
import time
from dataclasses import dataclass
from functools import partial
from io import StringIO
from multiprocessing import connection
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any, Final

from honcho.manager import Manager
from honcho.printer import Message, Printer
from honcho.process import Process

from deploy.local.errors import ChildDied, SettingsRefused
from deploy.local.places import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path


EXIT_SETTINGS: Final = 78
"""Exit status of a service with invalid settings."""
SETTINGS_SECONDS: Final = 3.0
"""Maximum time a service needs to read its settings."""
STOP_SECONDS: Final = 30.0
"""Maximum time for each stage to stop before it is killed; a second signal skips the wait."""
POLL_SECONDS: Final = 0.05
WATCH_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Program:
    """A command, its whole environment, and the file to which its output is appended."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    log: Path
    checks_settings: bool = False
    """Whether it exits at once if its settings are invalid, as the services do."""


class Supervisor(Manager):
    """Runs stages of programs. The last stage stops first.

    `when_started` is called in a thread once all programs are started; what it raises ends them and
    is raised by `run`. `on_request` is called when a signal begins the end.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[Program]],
        when_started: Callable[[Supervisor], None],
        *,
        on_request: Callable[[], None],
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        super().__init__(printer=Printer(StringIO()))  # the programs write to their logs
        self._process_ctor = _GuardedProcess
        self._stages = [[program.name for program in stage] for stage in stages]
        programs = [program for stage in stages for program in stage]
        self._logs = {program.name: program.log for program in programs}
        self._services = [program.name for program in programs if program.checks_settings]
        for program in programs:
            program.log.parent.mkdir(parents=True, exist_ok=True)
            log = shlex.quote(str(program.log))
            command = f"exec {shlex.join(program.command)} </dev/null >>{log} 2>&1"
            self.add_process(program.name, command, env=dict(program.env), cwd=str(ROOT))
        self._when_started = when_started
        self._on_request = on_request
        self._stop_seconds = stop_seconds
        self._requests = 0
        self._once = Lock()
        self._pid = os.getpid()
        self._exited: dict[str, int] = {}
        self._failure: Exception | None = None
        self.stopping: Final = Event()

    def run(self) -> None:
        """Run everything, in the main thread, until it has ended.

        Raises ChildDied or SettingsRefused if a program exited by itself.
        """
        try:
            self.loop()
        finally:
            self._signal(self._processes, signal.SIGKILL)  # normally, none is left
        deaths = [ChildDied(name, code, self._logs[name]) for name, code in self._exited.items()]
        if EXIT_SETTINGS in self._exited.values():
            of_each = {d.log.read_text(errors="replace"): d for d in reversed(deaths)}
            raise SettingsRefused(list(reversed(of_each.values())))
        if deaths:
            raise deaths[0]
        if self._failure is not None:
            raise self._failure

    def _request(self, *_: object) -> None:
        """Handle a signal: end everything. The second one skips waiting."""
        if os.getpid() == self._pid:  # a process of honcho inherits the handler
            self._requests += 1
            self.terminate()

    def terminate(self) -> None:
        """End everything, once. honcho calls this when a program has exited."""
        if self._once.acquire(blocking=False):
            self.stopping.set()
            Thread(target=self._stop_in_order).start()

    def kill(self) -> None:
        """Do nothing: honcho calls this after 5 s, but `_stop_in_order` has its own deadlines."""

    def _start(self) -> None:
        attached = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN  # ignored under nohup
        for number in (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if attached else [])):
            signal.signal(number, self._request)
        super()._start()
        Thread(target=self._watch, args=(os.getppid() if attached else None,), daemon=True).start()
        Thread(target=self._call_when_started).start()

    def _call_when_started(self) -> None:
        try:
            self._when_started(self)
        except Exception as error:  # noqa: BLE001  raised by `run`
            self._failure = error
            self.terminate()

    def _stop_in_order(self) -> None:
        if self._requests:
            self._on_request()
        self._wait(self._all_started, self._stop_seconds)
        if EXIT_SETTINGS in self._statuses().values():
            # Let the other services check their settings too, so that all problems are shown.
            self._wait(partial(self._ended, self._services), SETTINGS_SECONDS)
        self._exited = self._statuses()
        for stage in reversed(self._stages):
            self._signal(stage, signal.SIGTERM)
            self._signal(stage, signal.SIGCONT)
            self._wait(partial(self._ended, stage), self._stop_seconds)
            self._signal(stage, signal.SIGKILL)

    def _watch(self, parent: int | None) -> None:
        """Stop with the parent process; report a program whose process of honcho was killed."""
        while True:
            time.sleep(WATCH_SECONDS)
            if parent is not None and os.getppid() != parent and not self.stopping.is_set():
                self._request()
            silent = [n for n in self._running(self._processes) if not self._is_guarded(n)]
            if silent:
                time.sleep(WATCH_SECONDS)  # its last message may still be on the way
            for name in self._running(silent):
                self._signal([name], signal.SIGKILL)
                guard = self._processes[name]["process"]
                if "pid" not in self._processes[name]:
                    self.events.put(Message("start", {"pid": guard.pid}, None, name, None))
                self.events.put(Message("stop", {"returncode": guard.exitcode}, None, name, None))

    def _is_guarded(self, name: str) -> bool:
        return bool(self._processes[name]["process"].is_alive())

    def _wait(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition() and self._requests < 2 and time.monotonic() < deadline:  # noqa: PLR2004
            time.sleep(POLL_SECONDS)

    def _statuses(self) -> dict[str, int]:
        known = self._processes.items()
        return {name: process["returncode"] for name, process in known if "returncode" in process}

    def _running(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if "returncode" not in self._processes[name]]

    def _ended(self, names: Iterable[str]) -> bool:
        return not self._running(names)

    def _signal(self, names: Iterable[str], number: signal.Signals) -> None:
        for name in self._running(names):
            if "pid" in self._processes[name]:
                _signal_group(self._processes[name]["pid"], number)


class _GuardedProcess(Process):
    """honcho's process between the supervisor and one program; it kills an orphaned program."""

    def run(self, events: Any = None, ignore_signals: bool = False) -> None:  # noqa: FBT001, FBT002
        Thread(target=self._kill_orphan, daemon=True).start()
        super().run(events, ignore_signals)

    def _kill_orphan(self) -> None:
        supervisor = multiprocessing.parent_process()
        if supervisor is None:
            return
        connection.wait([supervisor.sentinel])
        if self._child is not None:
            _signal_group(self._child.pid, signal.SIGKILL)
        os._exit(1)


def _signal_group(pid: int, number: signal.Signals) -> None:
    # macOS refuses if only the unreaped leader is left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
