"""Prometheus metrics of what both services share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Counter

    from shared.bus.errors import Rejected


class BusCounts:
    """Turns what the bus counts (`shared.bus.counters`) into one metric with an `event` label.

    The event is the counter's name and what its labels say, such as `tries_failed-timeout`.
    """

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def __call__(self, name: str, amount: int = 1, **labels: str) -> None:
        """Add to a counter."""
        event = "-".join([name.removeprefix("bus_"), *labels.values()])
        self._counter.labels(event).inc(amount)

    def rejected(self, why: Rejected) -> None:
        """Count a message that was dropped."""
        self("rejected", 1, why=why.why)
