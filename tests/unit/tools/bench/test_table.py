"""The statistics in the tables of `make bench`."""

from __future__ import annotations

from tools.bench import table
from tools.bench.measuring import Figures
from tools.bench.table import busy_rounds, figures_table, ratio, spread
from tools.load.server.machine import OtherUse


def figures(
    per_second: float,
    cpu_us: float,
    *,
    load: float = 0.5,
    others: OtherUse | None = None,
    wrong: str = "",
) -> Figures:
    return Figures(per_second, cpu_us, 1.0, 2.0, load, others=others, wrong=wrong)


BARE = [figures(1000, 200), figures(2000, 100), figures(1500, 150)]
OURS = [figures(500, 400), figures(3000, 100), figures(1500, 300)]
QUIET, BUSY = OtherUse(0.1), OtherUse(0.9)


def cells(text: str, name: str) -> list[str]:
    (row,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in row.split("|")[1:-1]]


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds() -> None:
    """The ratio of the medians would be 1.00 for the rates, and 2.00 for the CPU."""
    ours = [figures(500, 400), figures(3000, 100), figures(1200, 300)]
    assert ratio(BARE, ours, lambda item: item.per_second) == "0.80 (0.50 to 1.50)"
    assert ratio(BARE, OURS, lambda item: item.cpu_us) == "2.00 (1.00 to 2.00)"
    assert ratio([figures(0, 0)], [figures(1, 1)], lambda item: item.per_second) == ""


def test_the_reference_has_no_ratio_to_itself() -> None:
    assert table.cost_to(BARE)(BARE) == ""
    assert table.rate_to(BARE)(OURS) == "1.00 (0.50 to 1.50)"


def test_a_spread_is_the_median_with_minimum_and_maximum() -> None:
    assert spread([1, 2, 9], "{:.0f}") == "2 (1 to 9)"
    assert spread([4], "{:.1f}") == "4.0"


def test_the_cpu_of_each_kind_of_process_is_a_median() -> None:
    def costing(gateway: float, redis: float) -> Figures:
        return Figures(1, 1, 1, 1, 0.5, cpu_us_by_role={"gateway": gateway, "redis": redis})

    assert table.shares([costing(200, 9), costing(300, 8), costing(280, 7)]) == (
        "gateway 280, redis 8"
    )
    assert table.shares(BARE) == ""


def test_each_subject_has_a_row_also_if_it_is_not_installed() -> None:
    text = figures_table(
        "x", {"bare": BARE, "ours": OURS}, {"CPU": table.costs}, missing=["nginx before it"]
    )
    assert cells(text, "") == ["", "CPU", "servers", "load"]
    assert cells(text, "ours") == ["ours", "300 (100 to 400)", "30%", "50%"]
    assert cells(text, "nginx before it") == ["nginx before it", "not installed", "", ""]


def test_a_saturated_load_and_wrong_outcomes_are_below_the_table() -> None:
    rounds = {"ours": [figures(1, 1, load=0.97, wrong="3 failed"), figures(1, 1, load=0.95)]}
    text = figures_table("x", rounds, {})
    assert "saturated: 96% of its core" in text
    assert "\n\nours: 3 failed\n\n" in text
    assert "read the columns of CPU" in text


class TestBusyMachine:
    def test_the_rounds_in_which_others_used_the_machine_are_named_below_the_table(self) -> None:
        rounds = {
            "bare": [figures(1, 1, others=use) for use in (QUIET, QUIET, BUSY)],
            "ours": [figures(1, 1, others=use) for use in (OtherUse(0.3), QUIET, BUSY)],
        }
        text = figures_table("x", rounds, {})
        assert (
            "\n\n**The machine was too busy in 2 of 3 rounds (1, 3): at most, other programs"
            in text
        )
        assert "used 0.9 of its 4 cores." in busy_rounds(rounds, cores=4)

    def test_a_round_in_which_the_hypervisor_withheld_time_is_named(self) -> None:
        rounds = {"ours": [figures(1, 1, others=OtherUse(0.0, stolen=0.4))]}
        assert "and the hypervisor withheld 0.4" in busy_rounds(rounds)

    def test_the_worst_use_of_a_round_counts(self) -> None:
        rounds = {
            "bare": [figures(1, 1, others=BUSY)],
            "ours": [figures(1, 1, others=OtherUse(0.4))],
        }
        assert "used 0.9 of its 2 cores." in busy_rounds(rounds, cores=2)

    def test_nothing_is_said_of_a_quiet_machine(self) -> None:
        rounds = {"ours": [figures(1, 1, others=QUIET), figures(1, 1)]}
        assert busy_rounds(rounds) == ""
