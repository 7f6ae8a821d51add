"""The table of relayed echoes compares the figures of each round."""

from __future__ import annotations

from tools.bench.relay.proxies import DIRECT, HAPROXY, LATCHKEY
from tools.bench.relay.rows import Passed, echo_table

SLOW_SECOND_ROUND = {
    DIRECT: [Passed(1000, 0, 0.1, 1, ""), Passed(500, 0, 0.5, 1, "")],
    HAPROXY: [Passed(900, 10, 0.12, 1, ""), Passed(400, 20, 0.55, 1, "")],
    LATCHKEY: [Passed(800, 12, 0.15, 1, ""), Passed(300, 18, 0.57, 1, "")],
}


def cells(table: str, name: str) -> list[str]:
    (row,) = [line for line in table.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in row.split("|")[1:-1]]


def test_added_latency_is_the_difference_to_no_proxy_in_the_same_round() -> None:
    table = echo_table("x", SLOW_SECOND_ROUND)
    added = cells(table, "").index(f"p50 of an echo: this - {DIRECT}, ms")
    assert cells(table, DIRECT)[added] == ""
    assert cells(table, HAPROXY)[added] == "0.035 (0.020 to 0.050)"
    assert cells(table, LATCHKEY)[added] == "0.060 (0.050 to 0.070)"


def test_ratios_divide_latchkeys_figure_by_that_of_the_row() -> None:
    table = echo_table("x", SLOW_SECOND_ROUND)
    cpu = cells(table, "").index("CPU: Latchkey / this")
    frames = cells(table, "").index("frames per second per core: Latchkey / this")
    assert cells(table, HAPROXY)[cpu] == "1.05 (0.90 to 1.20)"
    assert cells(table, HAPROXY)[frames] == "0.97 (0.83 to 1.11)"
    assert cells(table, DIRECT)[cpu] == cells(table, LATCHKEY)[cpu] == ""


def test_problems_are_listed_below_the_table() -> None:
    lost = {**SLOW_SECOND_ROUND, HAPROXY: [Passed(1, 1, 1, 1, "a connection was lost")]}
    one_round = {name: found[:1] for name, found in lost.items()}
    assert f"\n{HAPROXY}: a connection was lost" in echo_table("x", one_round)
