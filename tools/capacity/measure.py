"""`python -m tools.capacity --measure`: measures unit costs for costs.py.

CPU is read from /proc, where other work on the machine matters less than for rates.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import msgspec
import redis as redis_py

from services.approval.backup.records import (
    BackupDevice,
    BackupLastSeen,
    BackupMetadata,
    BackupPairing,
    BackupToken,
)
from shared.bus.channels import EVENTS
from shared.bus.envelope import Envelope
from shared.device.client import DeviceClient
from shared.device.handshake import Admitted
from shared.device.identity import DeviceKey
from shared.rpc.messages import Changed, Position, encode
from tools.bench.latchkey import ONE_FOR_MANY
from tools.bench.measuring import paired, reported
from tools.bench.subjects import latchkey
from tools.load.plan import Phase, Plan, Scenario, sources_for
from tools.support.pairing import PROFILE, pair_all
from tools.support.processes.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.bench.subjects import Subject

TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
DEVICES: Final = 64
IN_FLIGHT: Final = 64
LOAD_SECONDS: Final = 6.0
RECORDS: Final = 2_000
PART: Final = 50
IDLE: Final = 1_000
CHANGES: Final = 400
BEAT_SECONDS: Final = 0.05
REST_SECONDS: Final = 8.0


@dataclass
class Used:
    """CPU used by each kind of process, in µs."""

    us: dict[str, float] = field(default_factory=dict)

    def each(self, count: float) -> str:
        """Return the cost per unit."""
        return ", ".join(f"{kind} {us / max(1, count):.0f} µs" for kind, us in self.us.items())


@contextmanager
def using(stack: Stack) -> Iterator[Used]:
    """Measure the CPU of Redis, approval and gateway during the block."""
    pids = {
        "gateway": stack.gateways[0]._started().pid,
        "approval": stack.approvals[0]._started().pid,
        "redis": stack.redis.pid,
    }
    before = {kind: _cpu_us(pid) for kind, pid in pids.items()}
    used = Used()
    yield used
    used.us = {kind: _cpu_us(pid) - before[kind] for kind, pid in pids.items()}


def measure() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as directory:
        with Stack(Path(directory) / "a", gateways=1, env={"LOG_LEVEL": "info"}) as stack:
            print("a record in Redis:", f"{asyncio.run(_record_bytes(stack)):.0f} B")
        with Stack(Path(directory) / "b", gateways=1, gateway_env=ONE_FOR_MANY) as stack:
            keys = [DeviceKey.generate() for _ in range(DEVICES)]
            pair_all(stack, keys)
            subject = latchkey(stack, paired(latchkey(stack, ()), DEVICES))
            _load(subject, 1.0)
            with using(stack) as used:
                admitted = _load(subject, LOAD_SECONDS)
            print("an admission:", used.each(admitted), f"({admitted / LOAD_SECONDS:.0f}/s here)")
            asyncio.run(_idle(stack, keys[0]))
            asyncio.run(_changes(stack, keys[1]))
        beats = {"BEAT_SECONDS": str(BEAT_SECONDS)}
        with Stack(Path(directory) / "c", gateways=1, gateway_env=beats) as stack:
            asyncio.run(_rest(stack, "a heartbeat", REST_SECONDS / BEAT_SECONDS))
    print("a change on the wire:", _news_bytes(), "B")


def _load(subject: Subject, seconds: float) -> int:
    """Have devices connect and disconnect; return the number of handshakes."""
    phase = Phase("load", seconds, IN_FLIGHT)
    plan = Plan(
        scenario=Scenario.CLOSED, phases=(phase,), sources=sources_for(IN_FLIGHT), workers=1
    )
    return sum(row.count for row in reported(subject, plan).phases[-1].outcomes)


async def _record_bytes(stack: Stack) -> float:
    """Restore many devices and measure the growth of Redis."""
    with redis_py.Redis.from_url(stack.redis.admin_url) as admin:
        before = admin.info("memory")["used_memory"]
        headers = {"Authorization": f"Bearer {stack.admin_token}"}
        async with aiohttp.ClientSession(stack.approvals[0].url, headers=headers) as session:
            for at in range(0, RECORDS, PART):
                part = {
                    "backupId": "0" * 64,
                    "number": 1,
                    "total": RECORDS,
                    "at": at,
                    "devices": msgspec.to_builtins([_device() for _ in range(PART)]),
                }
                async with session.post("/v1/restore", json=part) as answer:
                    assert answer.status == 200, await answer.text()
        after = admin.info("memory")["used_memory"]
    return float((after - before) / RECORDS)


def _device() -> BackupDevice:
    key = DeviceKey.generate()
    token = BackupToken(
        role="operator",
        token_id="0" * 32,
        scopes=("operator.read", "operator.write"),
        created_at_ms=1_795_328_627_349,
        token_generation="0" * 16,
    )
    about = BackupMetadata(
        "openclaw-macos", "ui", "macos 26.1", "Mac", "Kitchen Mac", "203.0.113.9"
    )
    pairing = BackupPairing(
        about, "operator", ("operator",), token.scopes, (token,), 1, 1_795_328_627_349, "owner"
    )
    seen = BackupLastSeen(1_795_328_627_349, "connect", "203.0.113.9")
    return BackupDevice(key.device_id, key.public_key, pairing, seen)


async def _idle(stack: Stack, key: DeviceKey) -> None:
    """Hold idle connections open."""
    pid = stack.gateways[0]._started().pid
    async with AsyncExitStack() as sockets:
        before = _memory_bytes(pid)
        for _ in range(IDLE):
            client = DeviceClient(stack.gateways[0].ws_url, key, PROFILE, token=stack.gateway_token)
            sockets.push_async_callback(client.close)
            assert isinstance(await client.connect(), Admitted)
        print("an idle connection:", f"{(_memory_bytes(pid) - before) / IDLE:.0f} B")
        with using(stack) as used:
            await asyncio.sleep(REST_SECONDS)
        print("an idle connection, a second:", used.each(IDLE * REST_SECONDS / 1000), "in 1000 s")


async def _rest(stack: Stack, description: str, count: float) -> None:
    """Measure the cost of background work."""
    with using(stack) as used:
        await asyncio.sleep(REST_SECONDS)
    print(f"{description}:", used.each(count))


async def _changes(stack: Stack, key: DeviceKey) -> None:
    """Change one record repeatedly."""
    headers: dict[str, Any] = {"Authorization": f"Bearer {stack.admin_token}"}
    async with aiohttp.ClientSession(stack.approvals[0].url, headers=headers) as session:
        with using(stack) as used:
            for number in range(CHANGES):
                body = {"label": f"label {number}"}
                async with session.patch(f"/v1/devices/{key.device_id}", json=body) as answer:
                    answer.raise_for_status()
    print("a change:", used.each(CHANGES))


def _news_bytes() -> int:
    change = Changed(
        change=Position(1_000_000, "0" * 16),
        previous_tag="0" * 16,
        device_id="0" * 64,
        kind="approved",
        at_ms=1_795_328_627_349,
        request_id="0" * 36,
    )
    return len(Envelope(("0" * 32,), "0" * 32).seal(EVENTS, encode(change)))


def _cpu_us(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND * 1e6


def _memory_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
