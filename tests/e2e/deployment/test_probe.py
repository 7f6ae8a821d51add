"""The container health check distinguishes a ready service from one that is not ready."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from deploy.local.places import ROOT
from deploy.local.ports import Reservation
from shared.observability.probe import probe
from tools.support.waiting import wait_until

if TYPE_CHECKING:
    from tools.support.processes.stack import Stack

COMMAND = [sys.executable, "-m", "shared.observability.probe"]
IN_THE_IMAGE = [sys.executable, "-IS", str(ROOT / "shared/observability/probe.py")]
"""As deploy/Dockerfile runs it: isolated, without installed packages."""


def test_the_probe_follows_readiness(stack: Stack) -> None:
    ports = [service.port for service in stack.services]
    assert [probe(port) for port in ports] == [""] * len(ports)
    stack.redis.pause()
    wait_until(
        lambda: all('"ready":false' in probe(port) for port in ports), "none of them is ready"
    )
    stack.redis.resume()
    wait_until(lambda: not any(map(probe, ports)), "all are ready again")


def test_the_probe_fails_without_a_service() -> None:
    with Reservation() as port:
        assert probe(port.port).startswith("ConnectionRefusedError")


@pytest.mark.parametrize("command", [COMMAND, IN_THE_IMAGE])
def test_the_command_of_the_images_runs_the_probe(stack: Stack, command: list[str]) -> None:
    for service in stack.services:
        environ = {"PORT": str(service.port)}
        assert subprocess.run(command, env=environ, check=False).returncode == 0
    with Reservation() as port:
        assert _failing(command, str(port.port)).startswith(f"port {port.port}: Connection")
    assert _failing(command, "http") == "PORT is not a number\n"


def _failing(command: list[str], port: str) -> str:
    done = subprocess.run(command, env={"PORT": port}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr
