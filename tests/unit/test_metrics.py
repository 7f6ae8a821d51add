"""Counters appear under the name and labels they were counted with."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from shared.bus.errors import Rejected
from shared.observability.metrics import BusCounts


def test_an_event_of_the_bus_is_its_name_and_what_its_labels_say() -> None:
    registry = CollectorRegistry()
    counts = BusCounts(Counter("bus", "Events.", ["event"], registry=registry))
    for _ in range(2):
        counts("bus_tries_failed", why="timeout")
        counts("bus_answers_sent", 3)
        counts("bus_connections_lost", link="publisher", why="error")
        counts.rejected(Rejected("replayed"))
    events = {
        sample.labels["event"]: sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "bus_total"
    }
    assert events == {
        "tries_failed-timeout": 2,
        "answers_sent": 6,
        "connections_lost-publisher-error": 2,
        "rejected-replayed": 2,
    }
