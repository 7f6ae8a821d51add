"""Observes the servers from outside: descriptors in /proc, tasks from their metrics."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import aiohttp

from tools.load.server.processes import sample
from tools.support.metrics import metric

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from tools.load.server.leftovers import Counts
    from tools.load.server.processes import Watched
    from tools.load.server.subject import SystemUnderTest

DESCRIPTORS: Final = "descriptors"
TASKS: Final = "tasks"
SCRAPE_SECONDS: Final = 5.0


@asynccontextmanager
async def observing(system: SystemUnderTest) -> AsyncIterator[Callable[[], Awaitable[Counts]]]:
    """Yield a function that counts; roles that are not fully visible are left out.

    Every scrape opens a connection of its own, so that each sees only itself in addition.
    """
    gateways = [target.http_url for target in (system.target, *system.more_targets)]
    services = {"gateway": gateways, "approval": [system.approval_url.rstrip("/")]}
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True),
        timeout=aiohttp.ClientTimeout(total=SCRAPE_SECONDS),
    ) as http:

        async def look() -> Counts:
            seen = _descriptors(system.watched)
            for role, urls in services.items():
                name = f"latchkey_{role}_tasks"
                counts = await asyncio.gather(*(_scraped(http, url, name) for url in urls))
                seen[role, TASKS] = _sum(counts)
            return {key: count for key, count in seen.items() if count is not None}

        yield look


def _descriptors(watched: Iterable[Watched]) -> dict[tuple[str, str], int | None]:
    found: dict[tuple[str, str], list[int | None]] = {}
    for item in watched:
        seen = sample(item.pid, at=0.0)
        found.setdefault((item.role, DESCRIPTORS), []).append(seen and seen.descriptors)
    return {key: _sum(counts) for key, counts in found.items()}


async def _scraped(http: aiohttp.ClientSession, url: str, name: str) -> int | None:
    try:
        async with http.get(f"{url}/metrics") as answer:
            text = await answer.text(errors="replace")
    except (aiohttp.ClientError, TimeoutError):
        return None
    value = metric(text, name) if answer.status == HTTPStatus.OK else None
    return None if value is None else int(value)


def _sum(counts: Iterable[int | None]) -> int | None:
    """Return the total; None if one of the counts is unknown."""
    known = list(counts)
    return None if None in known else sum(item for item in known if item is not None)
