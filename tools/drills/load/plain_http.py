"""Measures what a flood of plain HTTP does to health checks, operators and sessions.

    python -m tools.drills.load.plain_http --service approval --target /openapi.json

Starts one approval and two gateways on loopback, connects devices, and floods one service from
another process for some seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp

from tools.support.actors import pair
from tools.support.processes.process_table import peak_memory_bytes
from tools.support.processes.stack import Stack

if TYPE_CHECKING:
    from tools.support.processes.service import ServiceProcess

PROBE_SECONDS: Final = 0.1
"""Interval of health checks and of operators' calls."""
ANSWER_SECONDS: Final = 60.0
DEVICES: Final = 5
SETTLE_SECONDS: Final = 15.0
"""How long sessions are watched after the flood: longer than a lease."""


@dataclass
class Probe:
    """The answers to one kind of request."""

    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """Return the number of answers and their times."""
        took = sorted(self.seconds) or [0.0]
        p99 = took[min(len(took) - 1, int(len(took) * 0.99))]
        return (
            f"{len(self.seconds)} answers, p50 {took[len(took) // 2] * 1000:.0f} ms, "
            f"p99 {p99 * 1000:.0f} ms, max {took[-1] * 1000:.0f} ms; "
            f"{len(self.wrong)} not answered well {sorted(set(self.wrong))[:3]}"
        )


async def _probe(url: str, headers: dict[str, str], probe: Probe) -> None:
    """Ask on a new connection each time, never two at once, until cancelled."""
    while True:
        began = time.perf_counter()
        try:
            async with (
                aiohttp.ClientSession(
                    headers=headers,
                    timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
                    connector=aiohttp.TCPConnector(force_close=True),
                ) as session,
                session.get(url) as answer,
            ):
                await answer.read()
                if answer.status != 200:
                    probe.wrong.append(str(answer.status))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            probe.wrong.append(type(error).__name__)
        probe.seconds.append(time.perf_counter() - began)
        await asyncio.sleep(PROBE_SECONDS)


async def _measure(stack: Stack, options: argparse.Namespace) -> None:
    flooded: ServiceProcess = {"approval": stack.approvals, "gateway": stack.gateways}[
        options.service
    ][0]
    bearer = {"Authorization": f"Bearer {stack.admin_token}"}
    probes = {
        "livez of the flooded service": (f"{flooded.url}/livez", {}),
        "readyz of the flooded service": (f"{flooded.url}/readyz", {}),
        "an operator's GET /v1/devices": (f"{stack.approvals[0].url}/v1/devices", bearer),
    }
    answers = {name: Probe() for name in probes}
    async with AsyncExitStack() as contexts:
        sessions = []
        for gateway in stack.gateways:
            for _ in range(DEVICES):
                device = await pair(stack)
                client = device.client(gateway)
                await contexts.enter_async_context(client)
                await client.connect()
                sessions.append(client)
        idle = peak_memory_bytes(flooded.pid)
        probing = [
            asyncio.create_task(_probe(url, headers, answers[name]))
            for name, (url, headers) in probes.items()
        ]
        await asyncio.sleep(1.0)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tools.support.plain_http_flood", str(flooded.port)),
            *("--target", options.target, "--seconds", str(options.seconds)),
        )
        await process.wait()
        await asyncio.sleep(SETTLE_SECONDS)
        for probe in probing:
            probe.cancel()
        await asyncio.gather(*probing, return_exceptions=True)
        lost = sum(not client.is_open for client in sessions)
        print(f"{options.service}{options.target}, {options.seconds:g} s:")
        for name, answered in answers.items():
            print(f"  {name}: {answered.summary()}")
        print(f"  sessions lost: {lost} of {len(sessions)}")
        peak = peak_memory_bytes(flooded.pid)
        print(f"  peak memory: {(peak - idle) / 1e6:.0f} MB over {idle / 1e6:.0f} MB")


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", choices=("approval", "gateway"), default="approval")
    parser.add_argument("--target", default="/openapi.json")
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, Stack(Path(directory)) as stack:
        asyncio.run(_measure(stack, options))


if __name__ == "__main__":
    _main()
