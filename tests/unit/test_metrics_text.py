"""A flood of scrapes shares a rendering of the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from shared.observability.ops import METRICS_RENDERINGS, METRICS_SECONDS, MetricsText
from tests.support.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterable


class Renderings(Collector):
    """A metric that counts how often it is read."""

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[GaugeMetricFamily]:
        self.count += 1
        yield GaugeMetricFamily("renderings", "Renderings.", value=self.count)


def test_after_some_scrapes_in_a_row_they_are_rendered_once_a_second() -> None:
    clock, registry, renderings = FakeClock(), CollectorRegistry(), Renderings()
    registry.register(renderings)
    before = renderings.count
    text = MetricsText(registry, clock)
    for _ in range(100):
        text.read()
    assert renderings.count - before == METRICS_RENDERINGS
    shared = text.read()
    clock.advance(METRICS_SECONDS)
    assert text.read() != shared
    assert text.read() == text.read()
    assert renderings.count - before == METRICS_RENDERINGS + 1


def test_occasional_scrapes_are_fresh() -> None:
    clock, registry, renderings = FakeClock(), CollectorRegistry(), Renderings()
    registry.register(renderings)
    text = MetricsText(registry, clock)
    seen = set()
    for _ in range(20):
        seen.add(text.read())
        clock.advance(METRICS_SECONDS)
    assert len(seen) == 20
