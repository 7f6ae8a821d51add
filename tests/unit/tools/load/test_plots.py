from __future__ import annotations

import re
from itertools import pairwise

import pytest

from tools.load.plots import Line, Scale, nice_ticks, plot


@pytest.mark.parametrize(
    ("most", "ticks"),
    [
        (0, [0, 1]),
        (5, [0, 1, 2, 3, 4, 5]),
        (97, [0, 20, 40, 60, 80, 100]),
        (1001, [0, 250, 500, 750, 1000, 1250]),
        (0.04, [0, 0.01, 0.02, 0.03, 0.04]),
    ],
)
def test_ticks_are_round_and_reach_the_top(most: float, ticks: list[float]) -> None:
    assert nice_ticks(most) == pytest.approx(ticks)


def paths(svg: str) -> list[str]:
    return re.findall(r' d="([^"]+)"', svg)


def test_a_line_stops_where_nothing_was_seen() -> None:
    line = Line("x", [(0, 1), (1, 2), (5, 3), (6, 4)], "a")
    (whole,) = paths(plot([line], title="t"))
    (interrupted,) = paths(plot([line], title="t", gap=2))
    assert (whole.count("M"), whole.count("L")) == (1, 3)
    assert (interrupted.count("M"), interrupted.count("L")) == (2, 2)


def test_nines_are_equally_far_apart() -> None:
    line = Line("x", [(0.0, 1), (0.9, 1), (0.99, 1), (0.999, 1)], "a")
    (path,) = paths(plot([line], title="t", x=Scale([(0.9, "90")], nines=True)))
    across = [float(x) for x in re.findall(r"[ML]([\d.]+),", path)]
    steps = [b - a for a, b in pairwise(across)]
    assert steps == pytest.approx([steps[0]] * 3, abs=0.2)


def test_titles_are_escaped() -> None:
    assert "<b>" not in plot([Line("x", [(0, 1)], "a")], title="<b>")
