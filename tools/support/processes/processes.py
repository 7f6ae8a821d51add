"""Programs that tests and tools start, disrupt and stop, and never orphan."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from deploy.local.errors import ChildDied
from deploy.local.places import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from deploy.local.programs.supervisor import Program

_GUARD: Final = Path(__file__).with_name("guard.py")


class Child:
    """A running program in its own session, so that it gets no signals from the terminal."""

    def __init__(
        self, program: Program, process: subprocess.Popen[bytes], ended: Callable[[int], None]
    ) -> None:
        self.name = program.name
        self.log = program.log
        self.pid = process.pid
        self._process = process
        self._ended = ended
        self._known_ended = False

    def status(self) -> int | None:
        """Return the exit status, negative for a signal, or None while it runs."""
        status = self._process.poll()
        if status is not None and not self._known_ended:
            self._known_ended = True
            self._ended(self.pid)
        return status

    def require_alive(self) -> None:
        """Raise ChildDied if it has exited."""
        if (status := self.status()) is not None:
            raise ChildDied(self.name, status, self.log)

    def terminate(self) -> None:
        """Send SIGTERM, and resume it if paused."""
        self._process.send_signal(signal.SIGTERM)
        self.resume()

    def stop(self, *, seconds: float) -> None:
        """Terminate it; kill it if it has not exited after `seconds`."""
        self.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """Kill its process group and wait for it to exit."""
        if self.status() is None:
            # macOS refuses if only the unreaped leader is left.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
            self.status()

    def pause(self) -> None:
        """Suspend it: its connections stay open but get no answers."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume it."""
        self._process.send_signal(signal.SIGCONT)


class Processes:
    """Starts programs and ensures that none outlives this process.

    A guard process waits for the end of a pipe that only this process holds open. Programs run in
    `directory`: their modules are those of that clone.
    """

    def __init__(self, directory: Path = ROOT) -> None:
        self._directory = directory
        self._children: list[Child] = []
        reader, self._guard_pipe = os.pipe()
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_GUARD)],
            stdin=reader,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(reader)

    def start(self, program: Program) -> Child:
        """Start a program; thread-safe."""
        program.log.parent.mkdir(parents=True, exist_ok=True)
        with program.log.open("ab") as log:
            process = subprocess.Popen(
                program.command,
                cwd=self._directory,
                env=dict(program.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._tell_guard(f"+{process.pid}")
        child = Child(program, process, self._forget)
        self._children.append(child)
        return child

    def require_alive(self) -> None:
        """Raise ChildDied for the first program that has exited."""
        for child in self._children:
            child.require_alive()

    def close(self) -> None:
        """Kill running programs, newest first, and end the guard."""
        for child in reversed(self._children):
            child.kill()
        self._children.clear()
        os.close(self._guard_pipe)
        self._guard.wait()

    def _forget(self, pid: int) -> None:
        self._tell_guard(f"-{pid}")

    def _tell_guard(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._guard_pipe, f"{line}\n".encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
