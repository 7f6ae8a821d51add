"""The upstream of relayed sessions: a stub of OpenClaw, in a process that can be killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from deploy.local.places import ROOT
from deploy.local.ports import HOST, Reservation
from shared.upstream import header_names
from tools.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

SECRET: Final = "the-upstream-secret-of-the-drills"
END_SECONDS: Final = 10.0


class Upstream:
    """One such process. Its paired devices are forgotten when it ends."""

    def __init__(self, directory: Path) -> None:
        self._reservation = Reservation()
        self._log = directory / "upstream.log"
        self._process: subprocess.Popen[bytes] | None = None

    def settings_of(self, gateway: str) -> dict[str, str]:
        """Return the settings of a gateway in front of it.

        The path names the gateway, and connection ids begin with that name.
        """
        return {
            "UPSTREAM_URL": f"ws://{HOST}:{self._reservation.port}/{gateway}",
            "UPSTREAM_SECRET": SECRET,
        }

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        command = (sys.executable, "-m", "tools.support.stub_openclaw")
        arguments = (str(self._reservation.port), header_names(SECRET).user)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *arguments],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(self._is_served, "the upstream accepts connections")

    def kill9(self) -> None:
        """Kill it as a crash does."""
        self._end(signal.SIGKILL)

    def terminate(self) -> None:
        """Terminate it as a deployment does."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Pause it."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume it."""
        self._send(signal.SIGCONT)

    def bring_back(self) -> None:
        """Make sure that it runs, whether it is paused, stopped or running."""
        if self._process is None or self._process.poll() is not None:
            self.start()
        else:
            self.resume()

    def close(self) -> None:
        """Stop it permanently."""
        if self._process is not None and self._process.poll() is None:
            self.kill9()

    def _is_served(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex((HOST, self._reservation.port)) == 0

    def _end(self, mode: signal.Signals) -> None:
        self._send(mode)
        process = self._running()
        process.wait(END_SECONDS)
        assert process.stdin is not None
        process.stdin.close()

    def _send(self, mode: signal.Signals) -> None:
        os.kill(self._running().pid, mode)

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the upstream was never started"
        return self._process
