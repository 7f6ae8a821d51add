"""`make run` with the real runner, services and Redis, from start to complete shutdown."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import stat
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from urllib.request import urlopen

import pytest

from deploy.local.places import ROOT
from deploy.local.ports import HOST, Reservation
from deploy.local.programs.readiness import ask_ready
from tools.support.processes.process_table import Process, alive, descendants
from tools.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tools.support.processes.redis import RedisServer

# On a machine without Redis the first of these fetches one.
pytestmark = pytest.mark.timeout(180)
UPGRADE: Final = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
READY_SECONDS: Final = 120.0
STOP_SECONDS: Final = 30.0
PROGRAMS: Final = ("redis", "approval", "gateway-1", "gateway-2")
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

    def wait_ready(self) -> set[Process]:
        """Wait until it reports readiness; returns its processes."""
        wait_until(
            lambda: "ready" in self.output or self.process.poll() is not None,
            "the run is ready",
            seconds=READY_SECONDS,
        )
        assert self.process.poll() is None, self.output
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
def running(tmp_path: Path, **environ: str) -> Iterator[Runner]:
    """Start the runner on free ports with its own data directory."""
    data = tmp_path / "data"
    output = tmp_path / "output"
    passed = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    settings = {"GATEWAY_PORT": "0", "APPROVAL_PORT": "0", "DATA_DIR": str(data)}
    with (
        output.open("wb") as file,
        subprocess.Popen(
            [sys.executable, "-m", "deploy.local"],
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


class TestReady:
    def test_both_gateways_answer_on_one_port_and_approval_on_the_other(
        self, tmp_path: Path
    ) -> None:
        with running(tmp_path) as run:
            run.wait_ready()
            gateways = ready_gateways(run.gateway_port)
            assert len(gateways) == 2
            (approval,) = ask_ready(run.approval_port)
            assert approval.ready
            assert approval.boot_id not in gateways

    def test_secrets_are_the_owners_alone_and_stay(self, tmp_path: Path) -> None:
        texts = []
        for _ in range(2):
            with running(tmp_path) as run:
                run.wait_ready()
                file = run.data / "secrets.env"
                texts.append(file.read_text())
                assert stat.S_IMODE(file.stat().st_mode) == 0o600
                run.process.send_signal(signal.SIGTERM)
                assert run.wait_ended() == 0
        assert texts[0] == texts[1]


def paste(command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a printed line in a shell in the clone, with an otherwise empty environment."""
    return subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=ROOT,
        env={"PATH": os.defpath, **environ},
        capture_output=True,
        text=True,
        timeout=READY_SECONDS,
        check=False,
    )


def printed(text: str, start: str) -> str:
    """Return the only printed command that begins like this."""
    found = re.search(rf"(?m)^  ({re.escape(start)}.*)$", text)
    assert found is not None, text
    return found[1]


class TestPasting:
    """With other ports and data: printed commands work as they are, without an added address."""

    def test_a_device_gets_in_by_the_printed_commands_alone(self, tmp_path: Path) -> None:
        with running(tmp_path) as run:
            run.wait_ready()
            connect = printed(run.output, ".venv/bin/python -m shared.device")
            connect += f" --state {tmp_path / 'device.json'}"
            refused = paste(connect)
            assert refused.returncode == 1, refused
            assert f"http://127.0.0.1:{run.approval_port}/setup" in refused.stdout
            approve = printed(refused.stdout, "bin/latchkey devices approve")
            assert paste(f"{approve} --yes --no-wait").returncode == 0
            assert paste(connect).returncode == 0
            latest = printed(run.output, "bin/latchkey devices approve --latest")
            assert "no request is pending" in paste(latest).stderr
            doctor = paste(latest.replace("devices approve --latest", "doctor"))
            assert doctor.returncode == 0, doctor
            assert f"ws://127.0.0.1:{run.gateway_port}" in doctor.stdout + doctor.stderr

    def test_elsewhere_the_refusal_says_where_approval_is(self, tmp_path: Path) -> None:
        with running(tmp_path) as run:
            run.wait_ready()
            export = printed(run.output, "export OPENCLAW_GATEWAY_TOKEN")
            token = paste(f'{export}; printf %s "$OPENCLAW_GATEWAY_TOKEN"').stdout
            elsewhere = paste(
                f".venv/bin/python -m shared.device ws://127.0.0.1:{run.gateway_port}"
                f" --state {tmp_path / 'device.json'} --secrets {tmp_path / 'none.env'}",
                OPENCLAW_GATEWAY_TOKEN=token,
            )
            assert elsewhere.returncode == 1
            at = f"APPROVAL_URL=http://127.0.0.1:{run.approval_port} bin/latchkey devices approve"
            assert printed(elsewhere.stdout, at)

    def test_addresses_are_there_while_it_runs_and_gone_after(self, tmp_path: Path) -> None:
        with running(tmp_path) as run:
            run.wait_ready()
            file = run.data / "run.env"
            shown = paste(f'. {file}; echo "$GATEWAY_URL $APPROVAL_URL"').stdout.split()
            assert shown == [
                f"ws://127.0.0.1:{run.gateway_port}",
                f"http://127.0.0.1:{run.approval_port}",
            ]
            run.process.send_signal(signal.SIGTERM)
            assert run.wait_ended() == 0
            assert not file.exists()


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


class TestObstacles:
    @pytest.mark.parametrize("setting", ["GATEWAY_PORT", "APPROVAL_PORT"])
    def test_a_port_in_use_is_one_clear_message(self, tmp_path: Path, setting: str) -> None:
        with socket.create_server((HOST, 0)) as other:
            port = str(other.getsockname()[1])
            with running(tmp_path, **{setting: port}) as run:
                assert run.wait_ended() == 1
                assert f"Port {port} on 127.0.0.1 cannot be used (already in use)" in run.output
                assert f"{setting}=<port>" in run.output
                assert "Traceback" not in run.output

    def test_ports_are_checked_before_openclaw_is_installed(self, tmp_path: Path) -> None:
        npm = tmp_path / "npm"
        npm.write_text("#!/bin/sh\nexit 1\n")
        npm.chmod(0o700)

        def make(port: int) -> str:
            done = subprocess.run(
                [
                    *("make", "-o", ".venv/.installed", "run", "UPSTREAM=openclaw"),
                    *(f"PY={sys.executable}", f"OPENCLAW={tmp_path / 'not-installed'}"),
                ],
                cwd=ROOT,
                env={
                    "PATH": f"{tmp_path}:{os.environ['PATH']}",
                    "GATEWAY_PORT": str(port),
                    "APPROVAL_PORT": "0",
                    "DATA_DIR": str(tmp_path / "data"),
                },
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode != 0
            return done.stdout + done.stderr

        with socket.create_server((HOST, 0)) as other:
            said = make(other.getsockname()[1])
        assert "cannot be used (already in use)" in said
        assert "npm" not in said
        assert "no working npm was found" in make(0), "with a free port, it is installed next"

    def test_a_second_run_on_the_same_port_is_refused_although_gateways_share_it(
        self, tmp_path: Path
    ) -> None:
        with running(tmp_path) as first:
            first.wait_ready()
            port = str(first.gateway_port)
            (tmp_path / "second").mkdir()
            with running(tmp_path / "second", GATEWAY_PORT=port) as second:
                assert second.wait_ended() == 1
                assert f"Port {port} on 127.0.0.1 cannot be used (already in use)" in second.output
            assert len(ready_gateways(first.gateway_port)) == 2

    def test_a_second_run_on_the_same_data_is_refused_with_a_reason(self, tmp_path: Path) -> None:
        with running(tmp_path) as first:
            first.wait_ready()
            (tmp_path / "second").mkdir()
            with running(tmp_path / "second", DATA_DIR=str(first.data)) as second:
                assert second.wait_ended() == 1
                assert "already runs" in second.output
            assert first.process.poll() is None

    def test_a_setting_a_service_refuses_is_shown_with_its_words(self, tmp_path: Path) -> None:
        with running(tmp_path, LOG_LEVEL="loud") as run:
            assert run.wait_ended() == 1
            assert "LOG_LEVEL=loud" in run.output

    def test_what_each_service_refuses_is_one_message(self, tmp_path: Path) -> None:
        wrong = {"PENDING_LIMIT": "-1", "GATEWAY_CONNECTION_LIMIT": "-2"}
        with running(tmp_path, **wrong) as run:
            assert run.wait_ended() == 1
            said = run.output.partition("cannot run:")[2]
            assert said.count("PENDING_LIMIT=-1") == said.count("GATEWAY_CONNECTION_LIMIT=-2") == 1


class TestDashboard:
    def test_both_gateways_serve_it(self, tmp_path: Path) -> None:
        ui = tmp_path / "ui"
        ui.mkdir()
        (ui / "index.html").write_text("<html>the dashboard</html>")
        with running(tmp_path, CONTROL_UI_DIR=os.path.relpath(ui, ROOT)) as run:
            run.wait_ready()
            address = f"http://127.0.0.1:{run.gateway_port}/"
            assert f"  {address}\n" in run.output
            for _ in range(8):
                with urlopen(address + "chat") as answer:  # noqa: S310  an address of ours
                    assert answer.read() == b"<html>the dashboard</html>"


class TestRedisUrl:
    def test_a_redis_that_is_named_is_used_and_none_is_started(
        self, tmp_path: Path, redis_server: RedisServer
    ) -> None:
        with running(tmp_path, REDIS_URL=redis_server.admin_url) as run:
            assert len(run.wait_ready()) == PROCESSES - 2
            assert "the one REDIS_URL names" in run.output
            assert not (run.data / "redis").exists()
            run.process.send_signal(signal.SIGINT)
            assert run.wait_ended() == 0
        assert redis_server.running

    def test_one_that_nobody_answers_at_is_named_at_once(
        self, tmp_path: Path, unused_tcp_port: int
    ) -> None:
        with running(tmp_path, REDIS_URL=f"redis://u:word@127.0.0.1:{unused_tcp_port}") as run:
            assert run.wait_ended() == 1
            assert f"REDIS_URL=redis://127.0.0.1:{unused_tcp_port}: no response" in run.output
            assert "word" not in run.output
            assert not run.data.exists()
