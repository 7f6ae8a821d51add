"""Read the services' metrics from their own endpoints."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import aiohttp

from shared.observability.ops import METRICS_SECONDS
from tools.support import metrics
from tools.support.waiting import WAIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.support.processes.service import ServiceProcess


async def metric(service: ServiceProcess, name: str) -> float:
    """Return the value of a metric, its labels in the name; 0 if it was never counted."""
    async with aiohttp.ClientSession() as http, http.get(f"{service.url}/metrics") as answer:
        return metrics.metric(await answer.text(), name) or 0.0


async def fresh_metrics(service: ServiceProcess, names: Sequence[str]) -> list[float]:
    """Return these metrics, all from one rendering made after the call."""
    await asyncio.sleep(METRICS_SECONDS)
    async with aiohttp.ClientSession() as http, http.get(f"{service.url}/metrics") as answer:
        text = await answer.text()
    return [metrics.metric(text, name) or 0.0 for name in names]


async def counted(service: ServiceProcess, event: str) -> int:
    """Return a service's count of this bus event."""
    kind = service.name.partition("-")[0]
    return int(await metric(service, f'latchkey_{kind}_bus_total{{event="{event}"}}'))


class Counts:
    """What the services have counted since this object was created."""

    def __init__(self, services: list[ServiceProcess], event: str) -> None:
        self._services = services
        self._event = event
        self._before: list[int] = []

    async def start(self) -> Counts:
        """Record the current counters, from renderings made after the call."""
        await asyncio.sleep(METRICS_SECONDS)
        self._before = [await counted(service, self._event) for service in self._services]
        return self

    async def until(self, more: int) -> None:
        """Wait until each has counted this many more."""
        for service, before in zip(self._services, self._before, strict=True):
            deadline = time.monotonic() + WAIT_SECONDS
            while (now := await counted(service, self._event) - before) < more:
                assert time.monotonic() < deadline, f"{service.name}: {now} of {more}"
            assert now == more, service.name
