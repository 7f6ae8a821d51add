"""The servers to compare: baselines and Latchkey on one core, the load on the others."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Final

from tools.bench.bare import VERIFY
from tools.bench.cpu import pin as pin_process
from tools.load.client.target import read_target
from tools.load.server.pairing import new_identities
from tools.load.server.processes import Watched
from tools.load.server.subject import SystemUnderTest
from tools.support.processes.process_table import descendants

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tools.load.client.devices import Identity
    from tools.support.processes.stack import Stack

BARE: Final = "bare aiohttp + uvloop"
VERIFYING: Final = "the same, verifying Ed25519"
LATCHKEY: Final = "Latchkey"
REDIS: Final = "redis"
BARE_DEVICES: Final = 256
START_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Subject:
    """A server under test: its address, and devices that it admits."""

    name: str
    system: SystemUnderTest
    identities: Sequence[Identity]


@contextmanager
def bare(name: str, *, verifies: bool) -> Iterator[Subject]:
    """Start a baseline server."""
    port = _free_port()
    command = [sys.executable, "-m", "tools.bench.bare", str(port), *([VERIFY] if verifies else [])]
    with subprocess.Popen(command) as process:
        try:
            _wait_for(port)
            system = SystemUnderTest(
                target=read_target(f"ws://127.0.0.1:{port}"),
                approval_url="",
                gateway_token="a" * 64,
                admin_token="",
                watched=(Watched("bare", process.pid),),
            )
            yield Subject(name, system, new_identities(BARE_DEVICES, approved=True))
        finally:
            process.kill()


def latchkey(stack: Stack, identities: Sequence[Identity]) -> Subject:
    """Return a stack as a subject; the load is spread over several gateways."""
    first, *others = stack.gateways
    system = SystemUnderTest(
        target=read_target(first.ws_url),
        more_targets=tuple(read_target(other.ws_url) for other in others),
        approval_url=stack.approvals[0].url,
        gateway_token=stack.gateway_token,
        admin_token=stack.admin_token,
        watched=(
            *(Watched("gateway", gateway.pid) for gateway in stack.gateways),
            *(Watched("approval", approval.pid) for approval in stack.approvals),
            Watched(REDIS, stack.redis.pid),
        ),
    )
    return Subject(LATCHKEY, system, identities)


def cores() -> tuple[int, set[int]]:
    """Return the servers' core and the load's cores, the same core if there is only one."""
    first, *others = sorted(os.sched_getaffinity(0))
    return first, set(others) or {first}


def pin(subject: Subject, *cores: int) -> None:
    """Pin all threads of the subject's processes to one core.

    Of several cores, each gateway and each approval gets one, and Redis all.
    """
    turns: dict[str, Iterator[int]] = {}
    for item in subject.system.watched:
        turn = next(turns.setdefault(item.role, cycle(cores)))
        own = cores if item.role == REDIS else (turn,)
        for pid in (item.pid, *(process.pid for process in descendants(item.pid))):
            pin_process(pid, *own)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _wait_for(port: int) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit("the bare server did not start")
