"""The statistics in the tables of `make bench`."""

from __future__ import annotations

from tools.bench.measuring import Figures
from tools.bench.table import churn_table, per_core, ratio, spread


def figures(per_second: float, cpu_us: float, *, load: float = 0.5, wrong: str = "") -> Figures:
    return Figures(per_second, cpu_us, 1.0, 2.0, load, wrong=wrong)


BARE = [figures(1000, 200), figures(2000, 100), figures(1500, 150)]
OURS = [figures(500, 400), figures(3000, 100), figures(1500, 300)]


def test_a_ratio_compares_the_two_of_each_round() -> None:
    assert ratio(BARE, OURS, lambda item: item.per_second) == "1.00 (0.50 to 1.50)"
    assert ratio(BARE, OURS, lambda item: item.cpu_us) == "2.00 (1.00 to 2.00)"
    assert ratio([figures(0, 0)], [figures(1, 1)], lambda item: item.per_second) == ""


def test_admissions_per_core_follow_from_the_cpu_of_each() -> None:
    assert per_core(figures(1, 200)) == 5000
    assert per_core(figures(0, 0)) == 0


def test_a_spread_is_the_median_with_minimum_and_maximum() -> None:
    assert spread([1, 2, 9], "{:.0f}") == "2 (1 to 9)"
    assert spread([4], "{:.1f}") == "4.0"


def test_a_saturated_load_and_wrong_outcomes_are_below_the_table() -> None:
    rounds = {"ours": [figures(1, 1, load=0.97, wrong="3 failed"), figures(1, 1, load=0.95)]}
    table = churn_table("x", rounds)
    assert "saturated: 96% of its core" in table
    assert "ours: 3 failed" in table
    assert "read the columns of CPU" in table
