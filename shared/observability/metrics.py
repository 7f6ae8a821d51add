"""Prometheus metrics common to both services."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prometheus_client import CollectorRegistry

    from shared.bus.errors import Rejected
    from shared.server.plain_requests import PlainRequests


def unfinished_tasks() -> int:
    """Return the number of unfinished tasks of the running loop; call it in that loop."""
    return len(asyncio.all_tasks())


class ReadCounter(Collector):
    """A counter whose values are kept elsewhere, as plain numbers, and read on each scrape."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labelnames = tuple(labels)
        self._read: dict[tuple[str, ...], Callable[[], float]] = {}
        registry.register(self)

    def watch(self, read: Callable[[], float], *values: str) -> None:
        """Export the number that `read` returns, with these label values."""
        self._read[values] = read

    def collect(self) -> Iterable[CounterMetricFamily]:
        """Read all numbers."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labelnames)
        for values, read in self._read.items():
            family.add_metric(values, read())
        yield family


class LoopCounter(Collector):
    """A counter with one label that is incremented only in the event loop, so it needs no lock.

    prometheus_client's Counter takes several times as long, which matters on the admission path.
    """

    def __init__(
        self, name: str, documentation: str, label: str, registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labelnames = (label,)
        self._created = time.time()
        self.counts: defaultdict[str, int] = defaultdict(int)
        """By the value of the label; reading one makes it present."""
        registry.register(self)

    def collect(self) -> Iterable[CounterMetricFamily]:
        """Export all counts."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labelnames)
        for value, count in self.counts.items():
            family.add_metric([value], count, created=self._created)
        yield family


class PlainHttpMetrics:
    """Exports the requests of plain HTTP, their limits, and what was dropped."""

    def __init__(self, service: str, registry: CollectorRegistry) -> None:
        self._requests = Gauge(
            f"latchkey_{service}_plain_requests",
            "Plain HTTP requests: `in_progress` (at most `HTTP_REQUESTS_LIMIT`, and health checks)"
            " or `waiting` for their turn.",
            ["state"],
            registry=registry,
        )
        self._unread = Gauge(
            f"latchkey_{service}_plain_unread_bytes",
            "Bytes of responses that clients of plain HTTP have not read; above 32 MiB, those with"
            " the most are disconnected.",
            registry=registry,
        )
        dropped = Counter(
            f"latchkey_{service}_plain_dropped",
            "Plain HTTP requests that were dropped: `waited` (503: no turn within 5 s), `displaced`"
            " (to make room for another), `body` (not received in time, or too large to"
            " wait) or `unread` (the client reads too slowly).",
            ["reason"],
            registry=registry,
        )
        self._dropped = {
            reason: dropped.labels(reason) for reason in ("waited", "displaced", "body", "unread")
        }

    def dropped(self, reason: str) -> None:
        """Count a dropped request."""
        self._dropped[reason].inc()

    def watch(self, requests: PlainRequests) -> None:
        """Read the numbers of requests and bytes on each scrape."""
        self._requests.labels("in_progress").set_function(lambda: requests.in_progress)
        self._requests.labels("waiting").set_function(lambda: requests.waiting)
        self._unread.set_function(lambda: requests.unread.bytes)


class BusCounts:
    """Exports the counters of the bus (`shared.bus.counters`) as one metric with an `event` label.

    The event is the counter's name and its label values, such as `tries_failed-timeout`.
    """

    def __init__(self, counter: Counter) -> None:
        self._event = cache(counter.labels)

    def __call__(self, name: str, amount: int = 1, **labels: str) -> None:
        """Increment a counter."""
        self._event("-".join((name, *labels.values())).removeprefix("bus_")).inc(amount)

    def adder(self, name: str) -> Callable[[float], None]:
        """Return a function that adds to a counter without labels; called for each message."""
        return self._event(name.removeprefix("bus_")).inc

    def rejected(self, why: Rejected) -> None:
        """Count a rejected message."""
        self("rejected", 1, why=why.why)
