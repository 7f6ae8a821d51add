"""One service of a stack: a real process that can be observed, disrupted and restarted."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from deploy.local.ports import HOST, Reservation
from deploy.local.programs.readiness import ReadyAnswer, ask_ready
from tools.support.processes.clock_ahead import with_clock_ahead
from tools.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from deploy.local.programs.supervisor import Program
    from tools.support.processes.processes import Child, Processes

Env = dict[str, str]

READY_SECONDS: Final = 30.0
STOP_SECONDS: Final = 30.0
LOG_CHARACTERS_SHOWN: Final = 4000


class ServiceProcess:
    """One service with a fixed port, which it keeps over restarts.

    Its log is appended to, so it covers all runs. `boot_id` changes with each run.
    """

    def __init__(
        self,
        name: str,
        env: Env,
        directory: Path,
        processes: Processes,
        program: Callable[[ServiceProcess, Env], Program],
    ) -> None:
        self.name: Final = name
        self.log: Final = directory / f"{name}.log"
        self._reservation = Reservation()
        self.port: Final = self._reservation.port
        self.url: Final = f"http://{HOST}:{self.port}"
        self.ws_url: Final = f"ws://{HOST}:{self.port}"
        self._env = env
        self._processes = processes
        self._program = program
        self._child: Child | None = None
        self.clock_ahead_seconds = 0.0
        """How far its wall clock is ahead, from its next start on."""

    @property
    def pid(self) -> int:
        """The process id."""
        return self._started().pid

    @property
    def boot_id(self) -> str:
        """The boot id of the current run."""
        answer = self.ready_answer()
        assert answer is not None, f"{self.name} does not answer"
        return answer.boot_id

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal, or None while it runs."""
        return self._started().status()

    def start(self, **env: str) -> None:
        """Start it, with these settings from now on; do not wait."""
        assert self._child is None or self._child.status() is not None, f"{self.name} runs"
        self._env |= env
        program = self._program(self, self._env)
        if self.clock_ahead_seconds:
            program = with_clock_ahead(program, self.clock_ahead_seconds)
        self._child = self._processes.start(program)

    def restart(self, **env: str) -> None:
        """Kill it if it is running, start it again and wait until it is ready."""
        self.kill9()
        self.start(**env)
        self.wait_ready()

    def ready_answer(self) -> ReadyAnswer | None:
        """Return the current `/readyz`; None without a response."""
        return next(iter(ask_ready(self.port)), None)

    def wait_ready(self, *, seconds: float = READY_SECONDS) -> None:
        """Wait until it is ready; fail immediately if it has ended."""
        self._wait_for(lambda answer: answer is not None and answer.ready, "is ready", seconds)

    def wait_not_ready(self, *, seconds: float = READY_SECONDS) -> None:
        """Wait until it reports that it is not ready."""
        self._wait_for(
            lambda answer: answer is not None and not answer.ready, "is not ready", seconds
        )

    async def until_ready(self, *, seconds: float = READY_SECONDS) -> None:
        """Like `wait_ready`, without blocking the event loop."""
        await asyncio.to_thread(self.wait_ready, seconds=seconds)

    async def until_not_ready(self, *, seconds: float = READY_SECONDS) -> None:
        """Like `wait_not_ready`, without blocking the event loop."""
        await asyncio.to_thread(self.wait_not_ready, seconds=seconds)

    def wait_ended(self, *, seconds: float = STOP_SECONDS) -> int:
        """Return the exit status once it has ended."""
        wait_until(lambda: self.status is not None, f"{self.name} has ended", seconds=seconds)
        status = self.status
        assert status is not None
        return status

    async def until_ended(self, *, seconds: float = STOP_SECONDS) -> int:
        """Like `wait_ended`, without blocking the event loop."""
        return await asyncio.to_thread(self.wait_ended, seconds=seconds)

    def terminate(self) -> None:
        """Send SIGTERM; do not wait."""
        self._started().terminate()

    def kill9(self) -> None:
        """Kill it."""
        self._started().kill()

    def pause(self) -> None:
        """Pause it (SIGSTOP): connections and subscriptions stay, but nothing is answered."""
        self._started().pause()

    def resume(self) -> None:
        """Resume a paused process."""
        self._started().resume()

    def bring_back(self) -> None:
        """Make sure it runs, whether it is paused, ended or running; do not wait."""
        if self.status is None:
            self.resume()
        else:
            self.start()

    def logs(self) -> list[dict[str, Any]]:
        """Return the log's JSON lines, without an incomplete last line."""
        text = self.log.read_text(errors="replace")
        lines = text[: text.rfind("\n") + 1].splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def log_text(self) -> str:
        """Return the log as text, including tracebacks."""
        return self.log.read_text(errors="replace")

    def release(self) -> None:
        """Release the port."""
        self._reservation.release()

    def _wait_for(
        self, condition: Callable[[ReadyAnswer | None], bool], description: str, seconds: float
    ) -> None:
        child = self._started()
        last: ReadyAnswer | None = None

        def holds() -> bool:
            nonlocal last
            child.require_alive()
            last = self.ready_answer()
            return condition(last)

        try:
            wait_until(holds, f"{self.name} {description}", seconds=seconds)
        except AssertionError as error:
            error.add_note(f"its last answer: {last}")
            error.add_note(self.log_text()[-LOG_CHARACTERS_SHOWN:])
            raise

    def _started(self) -> Child:
        assert self._child is not None, f"{self.name} was not started"
        return self._child
