"""Prometheus metrics of what both services share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Counter

    from shared.bus.errors import Rejected


def unfinished_tasks() -> int:
    """Return how many tasks of the running event loop have not ended; call it in that loop."""
    return len(asyncio.all_tasks())


class Children:
    """The children of one counter by the values of its labels, found once each.

    The library takes longer to find a child than to add to it.
    """

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._found: dict[tuple[str, ...], Counter] = {}

    def labels(self, *values: str) -> Counter:
        """Return the child for these values."""
        child = self._found.get(values)
        if child is None:
            child = self._found[values] = self._counter.labels(*values)
        return child


class BusCounts:
    """Turns what the bus counts (`shared.bus.counters`) into one metric with an `event` label.

    The event is the counter's name and what its labels say, such as `tries_failed-timeout`.
    """

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._found: dict[tuple[str, ...], Counter] = {}

    def __call__(self, name: str, amount: int = 1, **labels: str) -> None:
        """Add to a counter."""
        key = (name, *labels.values())
        child = self._found.get(key)
        if child is None:
            event = "-".join(key).removeprefix("bus_")
            child = self._found[key] = self._counter.labels(event)
        child.inc(amount)

    def rejected(self, why: Rejected) -> None:
        """Count a message that was dropped."""
        self("rejected", 1, why=why.why)
