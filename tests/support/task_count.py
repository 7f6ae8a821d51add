"""Checks a service's metric that counts the tasks of its event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def check_task_count(scrape: Callable[[], Awaitable[float | None]]) -> None:
    """Check that the metric follows the tasks of this event loop, on which the service runs."""
    before = await scrape()
    assert before is not None
    assert before >= 2, "the scrape is one, the test another"
    more = [asyncio.create_task(asyncio.Event().wait()) for _ in range(3)]
    assert await scrape() == before + 3
    for task in more:
        task.cancel()
    await asyncio.wait(more)
    assert await scrape() == before
