"""Counters appear under the name and labels they were counted with."""

from __future__ import annotations

import re

from prometheus_client import CollectorRegistry, Counter, generate_latest

from shared.bus.errors import Rejected
from shared.observability.metrics import BusCounts, LoopCounter


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


def test_a_counter_of_the_loop_exports_what_a_counter_does() -> None:
    exported = []
    for kind in ("loop", "library"):
        registry = CollectorRegistry()
        if kind == "loop":
            counter = LoopCounter("asked", "Questions.", "verdict", registry=registry)
            counter.counts["unreadable"] = 0
            counter.counts["admitted"] += 1
            counter.counts["admitted"] += 1
        else:
            ordinary = Counter("asked", "Questions.", ["verdict"], registry=registry)
            ordinary.labels("unreadable")
            ordinary.labels("admitted").inc(2)
        text = generate_latest(registry).decode()
        exported.append(re.sub(r"(asked_created\{.*\}) [0-9.e+]+", r"\1 TIME", text))
    assert exported[0] == exported[1]
    assert 'asked_total{verdict="admitted"} 2.0' in exported[0]
    assert 'asked_created{verdict="admitted"} TIME' in exported[0]
