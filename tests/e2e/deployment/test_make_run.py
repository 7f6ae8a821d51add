"""`make run` with the real runner, services and Redis: what it starts and says."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

from deploy.local.places import ROOT
from deploy.local.ports import HOST
from deploy.local.programs.readiness import ask_ready
from tests.e2e.deployment.make_run import (
    PROCESSES,
    READY_SECONDS,
    ready_gateways,
    running,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tools.support.processes.redis import RedisServer

# On a machine without Redis the first of these fetches one.
pytestmark = pytest.mark.timeout(180)


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

    def test_a_device_is_admitted_by_the_printed_commands_alone(self, tmp_path: Path) -> None:
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

    def test_an_unreachable_redis_is_named_at_once(
        self, tmp_path: Path, unused_tcp_port: int
    ) -> None:
        with running(tmp_path, REDIS_URL=f"redis://u:word@127.0.0.1:{unused_tcp_port}") as run:
            assert run.wait_ended() == 1
            assert f"REDIS_URL=redis://127.0.0.1:{unused_tcp_port}: no response" in run.output
            assert "word" not in run.output
            assert not run.data.exists()
