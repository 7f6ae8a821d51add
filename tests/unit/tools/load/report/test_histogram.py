from __future__ import annotations

import random

import pytest

from tools.load.report.histogram import MAX_US, Histogram


def filled(*values: int) -> Histogram:
    histogram = Histogram()
    histogram.record(values)
    return histogram


class TestPercentiles:
    def test_an_empty_histogram_has_only_zeros(self) -> None:
        empty = Histogram()
        assert (empty.percentile(50), empty.mean, list(empty.steps())) == (0, 0.0, [])

    def test_small_values_are_exact(self) -> None:
        histogram = filled(*range(1, 101))
        assert [histogram.percentile(p) for p in (1, 50, 99, 100)] == [1, 50, 99, 100]
        assert (histogram.minimum, histogram.mean, histogram.maximum) == (1, 50.5, 100)

    @pytest.mark.parametrize("percent", [1, 50, 90, 99, 99.9, 100])
    def test_percentiles_are_right_to_a_thousandth(self, percent: float) -> None:
        chance = random.Random(7)
        values = sorted(int(chance.lognormvariate(9, 2)) + 1 for _ in range(20_000))
        exact = values[max(0, -(-int(percent * 1000 * len(values)) // 100_000) - 1)]
        assert filled(*values).percentile(percent) == pytest.approx(exact, rel=1e-3)

    def test_values_out_of_range_count_as_the_nearest_in_range(self) -> None:
        histogram = filled(0, MAX_US * 2)
        assert (histogram.minimum, histogram.maximum) == (1, MAX_US)

    def test_the_steps_end_with_all_values(self) -> None:
        assert list(filled(1, 1, 2, 5).steps()) == [(0.5, 1), (0.75, 2), (1.0, 5)]


def test_merging_gives_the_histogram_of_all_values() -> None:
    one, other = filled(5, 70_000), filled(1, 70_001, 900_000)
    one.merge(other)
    one.merge(Histogram())
    together = filled(5, 70_000, 1, 70_001, 900_000)
    assert one.encoded() == together.encoded()
    assert (one.count, one.minimum, one.maximum, one.total) == (5, 1, 900_000, together.total)


def test_the_encoding_is_that_of_hdrhistogram() -> None:
    """The expected text is what HdrHistogram for Python (0.10.8) encodes for the same values."""
    histogram = filled(1, 1000, 2048, 3000, 70_000, 70_001, 1_000_000)
    assert histogram.encoded() == (
        "HISTFAAAADF4nJNpmSzMwMAgyAABzFCaEURcm7yEwf4DVIDpND/TWgGmrexM5z1ZttoyAQDGmgkE"
    )
