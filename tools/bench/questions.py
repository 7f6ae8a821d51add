"""Measures admissions per second of an approval process's CPU, over a real Redis.

The driver sends questions as a gateway does, several per message, and runs on another core than
approval and Redis. All checks are enabled: sealing, lockouts, limits, metrics and the log at its
default level.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import uvloop

from shared.device.identity import DeviceKey
from shared.rpc.messages import Admitted, AuthorizeDevice, ClientInfo, decode_answer, encode
from tools.bench.cpu import pin
from tools.bench.table import plain_table, spread
from tools.load.server.processes import cpu_seconds
from tools.support.pairing import PROFILE, pair_all
from tools.support.peers import FakeGateway
from tools.support.processes.stack import Stack
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DEVICES: Final = 64
QUESTIONS_A_MESSAGE: Final = (8, 64)
BATCHES_IN_FLIGHT: Final = 4
WARM_UP_SECONDS: Final = 0.5
PROTOCOL: Final = 4


@dataclass(frozen=True, slots=True)
class Answered:
    """One round: answers per second of approval's CPU, and its cost per answer."""

    answers: int
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        """Answers per second of CPU."""
        return self.answers / self.cpu_seconds

    @property
    def each_us(self) -> float:
        """CPU per answer, in microseconds."""
        return self.cpu_seconds / self.answers * 1e6


def questions(directory: Path, core: int, *, rounds: int, seconds: float, log_level: str) -> str:
    """Measure approval's CPU per question, and how many answers a core provides."""
    rows = []
    with Stack(directory, approvals=1, gateways=1, env={"LOG_LEVEL": log_level}) as latchkey:
        keys = [DeviceKey.generate() for _ in range(DEVICES)]
        pair_all(latchkey, keys)
        latchkey.gateways[0].terminate()
        latchkey.gateways[0].wait_ended()
        for pid in (latchkey.approvals[0].pid, latchkey.redis.pid):
            pin(pid, core)
        for batch in QUESTIONS_A_MESSAGE:
            found = uvloop.run(_ask(latchkey, keys, batch, rounds=rounds, seconds=seconds))
            rows.append(
                (
                    f"{batch} a message",
                    spread([item.each_us for item in found], "{:,.0f}"),
                    spread([item.per_second for item in found], "{:,.0f}"),
                )
            )
    heads = ("", "CPU µs of approval each", "a second by CPU")
    return plain_table("Questions to approval", heads, rows)


async def _ask(
    latchkey: Stack, keys: Sequence[DeviceKey], batch: int, *, rounds: int, seconds: float
) -> list[Answered]:
    """Ask for this many seconds per round; a short first round is not counted."""
    pid = latchkey.approvals[0].pid
    async with FakeGateway(latchkey.redis.gateway_url, latchkey.bus_secret) as gateway:
        await until(gateway.responders.live, "an approval is seen")
        driver = _Driver(gateway, keys, batch)
        await driver.run(WARM_UP_SECONDS)
        found = []
        for _ in range(rounds):
            before = cpu_seconds(pid)
            answers = await driver.run(seconds)
            found.append(Answered(answers, cpu_seconds(pid) - before))
        return found


class _Driver:
    """Keeps several messages of questions in flight."""

    def __init__(self, gateway: FakeGateway, keys: Sequence[DeviceKey], batch: int) -> None:
        self._requester = gateway.requester
        self._asked = [question(keys[n % len(keys)], n) for n in range(batch)]

    async def run(self, seconds: float) -> int:
        """Ask for this long; returns the number of answers. Fails if a device is not admitted."""
        until_time = asyncio.get_running_loop().time() + seconds
        counts = await asyncio.gather(*(self._keep(until_time) for _ in range(BATCHES_IN_FLIGHT)))
        return sum(counts)

    async def _keep(self, until_time: float) -> int:
        answers = 0
        loop = asyncio.get_running_loop()
        while loop.time() < until_time:
            futures = [self._requester.submit(request) for request in self._asked]
            await asyncio.wait(futures)
            first = decode_answer(futures[0].result())
            assert isinstance(first, Admitted), first
            answers += sum(future.exception() is None for future in futures)
        return answers


def question(key: DeviceKey, number: int) -> msgspec.Raw:
    """Return a gateway's question about a paired node that sent the gateway token."""
    client = ClientInfo(PROFILE.client_id, PROFILE.mode, PROFILE.version, PROFILE.platform)
    admission = AuthorizeDevice(
        f"connection-{number:025}",
        key.device_id,
        key.public_key,
        "node",
        [],
        client,
        "token",
        f"127.0.0.{1 + number % 16}",
        PROTOCOL,
        not_after_ms=1 << 45,
    )
    return msgspec.Raw(encode(admission))
