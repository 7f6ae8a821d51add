"""The container health check distinguishes a ready service from one that is not ready."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from deploy.local.ports import Reservation
from shared.observability.probe import probe
from tools.support.waiting import wait_until

if TYPE_CHECKING:
    from tools.support.processes.stack import Stack

COMMAND = [sys.executable, "-m", "shared.observability.probe"]


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


def test_the_command_of_the_images_runs_the_probe(stack: Stack) -> None:
    port = str(stack.gateways[0].port)
    assert subprocess.run(COMMAND, env={"PORT": port}, check=False).returncode == 0
    unset = subprocess.run(COMMAND, env={}, check=False, capture_output=True, text=True)
    assert (unset.returncode, unset.stderr) == (1, "PORT is not set\n")
