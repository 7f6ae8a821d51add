"""What ends `make run`, and that nothing of it is left."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from deploy.local.places import ROOT
from deploy.local.ports import HOST
from tests.e2e.deployment.make_run import (
    PROCESSES,
    PROGRAMS,
    READY_SECONDS,
    STOP_SECONDS,
    require_free,
    running,
)
from tools.support.processes.process_table import alive, descendants
from tools.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path


# On a machine without Redis the first of these fetches one.
pytestmark = pytest.mark.timeout(180)
UPGRADE: Final = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class TestEnd:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_ends_all_and_leaves_nothing(
        self, tmp_path: Path, number: signal.Signals
    ) -> None:
        with running(tmp_path) as run:
            started = run.wait_ready()
            assert len(started) == PROCESSES
            ports = run.gateway_port, run.approval_port
            run.process.send_signal(number)
            assert run.wait_ended() == 0, run.output
            assert "Stopped." in run.output
            logs = run.data / "logs"
            assert "bye bye" in (logs / "redis.log").read_text()
            written = {name: (logs / f"{name}.log").stat().st_mtime_ns for name in PROGRAMS}
            gateways = max(written["gateway-1"], written["gateway-2"])
            assert gateways <= written["approval"] <= written["redis"]
            assert not alive(started)
            require_free(*ports)

    def test_a_closed_terminal_ends_all(self, tmp_path: Path) -> None:
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "deploy.local"],
            cwd=ROOT,
            env={
                **os.environ,
                "GATEWAY_PORT": "0",
                "APPROVAL_PORT": "0",
                "DATA_DIR": str(tmp_path / "data"),
            },
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        ) as process:
            os.close(theirs)
            try:
                shown = b""
                while b"Press Ctrl-C" not in shown:
                    shown += os.read(ours, 4096)
                started = descendants(process.pid)
                assert len(started) == PROCESSES
                os.close(ours)  # printing fails from now on
                process.send_signal(signal.SIGHUP)
                assert process.wait(STOP_SECONDS) == 0
            finally:
                process.kill()
        assert not alive(started)

    def test_killing_the_runner_leaves_nothing(self, tmp_path: Path) -> None:
        with running(tmp_path) as run:
            started = run.wait_ready()
            ports = run.gateway_port, run.approval_port
            run.process.kill()
            run.wait_ended()
            wait_until(lambda: not alive(started), "all children are gone")
            require_free(*ports)

    def test_after_a_kill_the_same_ports_and_data_serve_again(self, tmp_path: Path) -> None:
        with running(tmp_path) as run:
            started = run.wait_ready()
            ports = {"GATEWAY_PORT": str(run.gateway_port), "APPROVAL_PORT": str(run.approval_port)}
            secrets = (run.data / "secrets.env").read_text()
            run.process.kill()
            run.wait_ended()
        wait_until(lambda: not alive(started), "all children are gone")
        with running(tmp_path, **ports) as run:
            run.wait_ready()
            assert (run.data / "secrets.env").read_text() == secrets

    def test_a_second_signal_does_not_wait_for_a_gateway_that_drains(self, tmp_path: Path) -> None:
        with running(tmp_path, DRAIN_SECONDS="600") as run:
            started = run.wait_ready()
            with socket.create_connection((HOST, run.gateway_port)) as client:
                client.sendall(UPGRADE)
                assert client.recv(12) == b"HTTP/1.1 101"
                run.process.send_signal(signal.SIGINT)
                wait_until(lambda: "Press Ctrl-C again" in run.output, "it stops")
                with pytest.raises(subprocess.TimeoutExpired):
                    run.process.wait(1)
                run.process.send_signal(signal.SIGINT)
                assert run.wait_ended() == 0
            assert not alive(started)

    def test_a_killed_process_of_honcho_ends_the_run(self, tmp_path: Path) -> None:
        with running(tmp_path) as run:
            started = run.wait_ready()
            (honchos,) = (
                p for p in started if run.pid("approval") in {d.pid for d in descendants(p.pid)}
            )
            os.kill(honchos.pid, signal.SIGKILL)
            assert run.wait_ended() == 1
            assert "approval was terminated by SIGKILL" in run.output
            assert not alive(started)

    def test_the_parents_end_is_the_runs(self, tmp_path: Path) -> None:
        environ = {
            **os.environ,
            "GATEWAY_PORT": "0",
            "APPROVAL_PORT": "0",
            "DATA_DIR": str(tmp_path / "data"),
        }
        output = tmp_path / "output"
        with (
            output.open("wb") as file,
            subprocess.Popen(
                ["/bin/sh", "-c", '"$0" -m deploy.local; :', sys.executable],
                cwd=ROOT,
                env=environ,
                stdout=file,
                stderr=subprocess.STDOUT,
            ) as parent,
        ):
            try:
                wait_until(lambda: "ready" in output.read_text(), "ready", seconds=READY_SECONDS)
                started = descendants(parent.pid)
                assert len(started) == 1 + PROCESSES
            finally:
                parent.kill()
        wait_until(lambda: not alive(started), "all is gone", seconds=STOP_SECONDS)

    @pytest.mark.parametrize("name", ["gateway-2", "approval", "redis"])
    def test_a_program_that_dies_ends_the_run_and_is_named(self, tmp_path: Path, name: str) -> None:
        with running(tmp_path) as run:
            started = run.wait_ready()
            os.kill(run.pid(name), signal.SIGKILL)
            assert run.wait_ended() == 1
            assert f"{name} was terminated by SIGKILL" in run.output
            assert str(run.data / "logs" / f"{name}.log") in run.output
            assert not alive(started)
