"""Start, monitor and stop child programs, and never orphan them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from deploy.local.errors import ChildDied
from deploy.local.places import ROOT

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

POLL_SECONDS: Final = 0.02
_HERE: Final = Path(__file__).parent
# Isolated and without site-packages: these two scripts start in a few milliseconds.
_SCRIPT: Final = (sys.executable, "-I", "-S")


@dataclass(frozen=True, slots=True)
class Program:
    """A program to start. Output is appended to `log`; `listen` is passed as LISTEN_FDS."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    log: Path
    listen: socket.socket | None = None


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

    A guard process waits for the end of a pipe that only this process holds open.
    """

    def __init__(self) -> None:
        self._children: list[Child] = []
        reader, self._guard_pipe = os.pipe()
        self._guard = subprocess.Popen(
            [*_SCRIPT, str(_HERE / "guard.py")],
            stdin=reader,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(reader)

    def start(self, program: Program) -> Child:
        """Start a program in the root of the clone; thread-safe."""
        program.log.parent.mkdir(parents=True, exist_ok=True)
        handed = [] if program.listen is None else [program.listen.fileno()]
        with program.log.open("ab") as log:
            process = subprocess.Popen(
                [
                    *_SCRIPT,
                    str(_HERE / "launch.py"),
                    str(self._guard_pipe),
                    *(map(str, handed) if handed else ["-"]),
                    *program.command,
                ],
                cwd=ROOT,
                env=dict(program.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[self._guard_pipe, *handed],
                start_new_session=True,
            )
        child = Child(program, process, self._forget)
        self._children.append(child)
        return child

    def require_alive(self) -> None:
        """Raise ChildDied for the first program that has exited."""
        for child in self._children:
            child.require_alive()

    def deaths(self) -> list[ChildDied]:
        """Return the programs that have exited, in start order."""
        return [
            ChildDied(child.name, status, child.log)
            for child in self._children
            if (status := child.status()) is not None
        ]

    def stop(
        self, *children: Child, seconds: float, hurry: Callable[[], bool] = lambda: False
    ) -> None:
        """Terminate programs together; kill them after `seconds` or once `hurry` is true."""
        running = [child for child in children if child.status() is None]
        for child in running:
            child.terminate()
        deadline = time.monotonic() + seconds
        while any(child.status() is None for child in running):
            if hurry() or time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS)
        for child in children:
            child.kill()
            self._children.remove(child)

    def close(self) -> None:
        """Kill running programs, newest first, and end the guard."""
        for child in reversed(self._children):
            child.kill()
        self._children.clear()
        os.close(self._guard_pipe)
        self._guard.wait()

    def _forget(self, pid: int) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._guard_pipe, f"-{pid}\n".encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
