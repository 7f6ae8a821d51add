"""HAProxy in front of gateways and approvals, with the deployed configuration file."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Final

from deploy.local.places import ROOT
from deploy.local.ports import HOST, Reservation
from deploy.local.programs.readiness import ask_ready
from deploy.local.programs.supervisor import Program
from tools.support.processes.processes import Processes
from tools.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tools.support.processes.stack import Stack

CONFIGURATION: Final = ROOT / "deploy" / "proxy" / "haproxy.cfg"
DESCRIPTOR_LIMIT: Final = 18_500
"""Of HAProxy: two for each of 9000 connections, and some for itself."""
# Debian installs it in a directory that is not on users' PATH.
_PATH: Final = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))


def find_haproxy() -> str | None:
    """Return the path of the program, or None."""
    return shutil.which("haproxy", path=_PATH)


class HaProxy:
    """One HAProxy for a stack: a random replica for each connection, never a sticky one."""

    def __init__(self, stack: Stack, directory: Path) -> None:
        self._processes = Processes()
        self._gateways = Reservation()
        self._approvals = Reservation()
        self.ws_url: Final = f"ws://{HOST}:{self._gateways.port}"
        self.http_url: Final = f"http://{HOST}:{self._approvals.port}"
        haproxy = find_haproxy()
        assert haproxy is not None, "there is no haproxy"
        self._program = Program(
            name="haproxy",
            command=[haproxy, "-db", "-f", str(CONFIGURATION)],
            env={
                "GATEWAY_BIND": f"{HOST}:{self._gateways.port}",
                "APPROVAL_BIND": f"{HOST}:{self._approvals.port}",
                "DESCRIPTOR_LIMIT": str(DESCRIPTOR_LIMIT),
                "FRONT_PROXIES": "",
                **_replicas("GATEWAY", [gateway.port for gateway in stack.gateways]),
                **_replicas("APPROVAL", [approval.port for approval in stack.approvals]),
            },
            log=directory / "haproxy.log",
        )

    def start(self) -> None:
        """Start it and wait until it reaches a gateway and an approval."""
        child = self._processes.start(self._program)

        def leads() -> bool:
            child.require_alive()
            ports = (self._gateways.port, self._approvals.port)
            return all(any(answer.ready for answer in ask_ready(port)) for port in ports)

        wait_until(leads, "HAProxy reaches the services")

    def close(self) -> None:
        """Stop it."""
        self._processes.close()
        self._gateways.release()
        self._approvals.release()


def _replicas(kind: str, ports: list[int]) -> dict[str, str]:
    return {f"{kind}_{number}": f"{HOST}:{port}" for number, port in enumerate(ports, start=1)}
