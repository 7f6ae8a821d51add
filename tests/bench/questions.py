"""How many admissions one approval process answers per second of its own CPU, over a real Redis.

`python -m tests.bench.questions`: the driver asks as a gateway does, in messages of many questions,
and stands on another core than approval and Redis. Every check is on: sealing, lock-out guards,
limits, metrics and the log at its default level.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import uvloop

from shared.device.identity import DeviceKey
from shared.messages import Admission, Admitted, ClientInfo, decode_answer, encode
from tests.bench.cpu import cpu_seconds, pin
from tests.support.pairing import PROFILE, pair_all
from tests.support.peers import FakeGateway
from tests.support.stack import Stack
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DEVICES: Final = 64
BATCHES_IN_FLIGHT: Final = 4
PROTOCOL: Final = 4


@dataclass(frozen=True, slots=True)
class Answered:
    """One round: answers per second of the approval's CPU, and what one answer cost there."""

    answers: int
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        """Answers per second of CPU."""
        return self.answers / self.cpu_seconds

    @property
    def each_us(self) -> float:
        """CPU for one answer, in microseconds."""
        return self.cpu_seconds / self.answers * 1e6


def main() -> None:
    """Measure and print."""
    given = _arguments()
    cores = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        latchkey = stack.enter_context(Stack(directory, approvals=1, gateways=1))
        keys = [DeviceKey.generate() for _ in range(DEVICES)]
        pair_all(latchkey, keys)
        latchkey.gateways[0].terminate()
        latchkey.gateways[0].wait_ended()
        (approval,) = latchkey.approvals
        for pid in (approval.pid, latchkey.redis.pid):
            pin(pid, cores[0])
        pin(0, cores[-1])
        for batch in given.batch:
            rounds = uvloop.run(
                ask(
                    latchkey,
                    keys,
                    lambda: cpu_seconds(approval.pid),
                    batch=batch,
                    rounds=given.rounds,
                    seconds=given.seconds,
                )
            )
            print(f"{batch:4} questions a message: {shown(rounds)}")


async def ask(
    latchkey: Stack,
    keys: Sequence[DeviceKey],
    cpu: Callable[[], float],
    *,
    batch: int,
    rounds: int,
    seconds: float,
) -> list[Answered]:
    """Ask for so many seconds a round; a first short one is not counted."""
    secret = latchkey._secrets["BUS_SECRET"]
    async with FakeGateway(latchkey.redis.gateway_url, secret) as gateway:
        await until(gateway.responders.live, "an approval is heard")
        driver = _Driver(gateway, keys, batch)
        await driver.run(0.5)
        found = []
        for _ in range(rounds):
            before = cpu()
            answers = await driver.run(seconds)
            found.append(Answered(answers, cpu() - before))
        return found


def shown(rounds: Sequence[Answered]) -> str:
    """Say it in words: the median of the rounds, and their spread."""
    rates = [one.per_second for one in rounds]
    each = statistics.median(one.each_us for one in rounds)
    return (
        f"{statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f}) "
        f"answers per second of CPU, {each:.1f} us each"
    )


class _Driver:
    """Keeps a few messages of questions under way."""

    def __init__(self, gateway: FakeGateway, keys: Sequence[DeviceKey], batch: int) -> None:
        self._requester = gateway.requester
        self._asked = [question(keys[n % len(keys)], n) for n in range(batch)]

    async def run(self, seconds: float) -> int:
        """Ask for so long; returns how many answers came. Fails for any that lets nobody in."""
        until_time = asyncio.get_running_loop().time() + seconds
        counts = await asyncio.gather(*(self._keep(until_time) for _ in range(BATCHES_IN_FLIGHT)))
        return sum(counts)

    async def _keep(self, until_time: float) -> int:
        answers = 0
        loop = asyncio.get_running_loop()
        while loop.time() < until_time:
            futures = [self._requester.submit(one) for one in self._asked]
            await asyncio.wait(futures)
            first = decode_answer(futures[0].result())
            assert isinstance(first, Admitted), first
            answers += sum(future.exception() is None for future in futures)
        return answers


def question(key: DeviceKey, number: int) -> msgspec.Raw:
    """Return what a gateway asks about a paired node that brought the gateway token."""
    client = ClientInfo(PROFILE.client_id, PROFILE.mode, PROFILE.version, PROFILE.platform)
    admission = Admission(
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


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, nargs="+", default=[64], help="questions a message")
    return parser.parse_args()


if __name__ == "__main__":
    main()
