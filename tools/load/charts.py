"""The plots of a report page: rates, latencies, percentiles, servers."""

from __future__ import annotations

from html import escape
from itertools import cycle
from typing import TYPE_CHECKING, Final

from tools.load.plots import NARROW_WIDTH, WIDTH, Line, Scale, Unit, plot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tools.load.report import Report
    from tools.load.servers import ServerPoint

POINTS_MOST: Final = 400
GAP_SECONDS: Final = 1.6
"""A line is interrupted where there is no value for this long."""
_NINES: Final = (
    (0.0, "0"),
    (0.5, "50"),
    (0.9, "90"),
    (0.99, "99"),
    (0.999, "99.9"),
    (0.9999, "99.99"),
)


def over_time(report: Report) -> str:
    """Return rates, held connections and latencies over time."""
    points = report.points
    lines = [
        Line("admitted", [(one.at, one.admitted) for one in points], "a"),
        Line("refused", [(one.at, one.refused) for one in points], "b"),
        Line("other", [(one.at, one.others) for one in points], "c"),
    ]
    held = Line("held", [(one.at, float(one.held)) for one in points], "d")
    times = [
        Line("p50", [(one.at, one.p50_ms) for one in points if one.p50_ms], "a"),
        Line("p99", [(one.at, one.p99_ms) for one in points if one.p99_ms], "c"),
    ]
    return (
        _plot("Rate over time", "verdicts a second, by seconds", lines)
        + _plot("Connections held", "by seconds", [held])
        + _plot("Latency over time", "milliseconds, by seconds", times)
    )


def percentiles(report: Report) -> str:
    """Return latency by percentile; empty if no decision was made."""
    points = report.percentiles
    if not points:
        return ""
    step = max(1, len(points) // POINTS_MOST)
    shown = [*points[::step], points[-1]]
    # The slowest attempt is placed where the next nine would begin.
    end = 1 - 0.5 / sum(phase.latency_ms.count for phase in report.phases if phase.counted)
    line = Line("latency", [(min(share, end), ms) for share, ms in shown], "a")
    return _plot(
        "Latency by percentile",
        "milliseconds not exceeded by this percentage of attempts",
        [line],
        x=Scale(_NINES, nines=True),
    )


def servers_over_time(report: Report) -> str:
    """Return CPU, memory and descriptors of the servers; empty if not visible."""
    roles = dict(zip(dict.fromkeys(one.role for one in report.servers), cycle("abcdef")))

    def lines(value: Callable[[ServerPoint], float]) -> list[Line]:
        return [
            Line(role, [(one.at, value(one)) for one in report.servers if one.role == role], kind)
            for role, kind in roles.items()
        ]

    cpu = lines(lambda one: one.busy * 100)
    memory = lines(lambda one: one.rss_bytes / 2**20)
    descriptors = lines(lambda one: float(one.descriptors))
    return (
        _plot("Server CPU", "share of a core, by seconds", cpu, y=Unit("%"))
        + _plot("Server memory", "resident MB, by seconds", memory)
        + _plot("Server descriptors", "open files, by seconds", descriptors)
    )


def _plot(
    title: str, below: str, lines: Sequence[Line], *, x: Scale | None = None, y: Unit | None = None
) -> str:
    shown = [line for line in lines if any(value for _, value in line.points)]
    if not shown:
        return ""
    legend = "".join(
        f'<span class="{line.kind}">{escape(line.name)}</span>' for line in shown if len(shown) > 1
    )
    wide, narrow = (
        plot(shown, title=title, x=x, y=y, gap=GAP_SECONDS, width=width)
        for width in (WIDTH, NARROW_WIDTH)
    )
    return (
        f"<section><h2>{escape(title)}</h2><p>{escape(below)} {legend}</p>"
        f'<div class="wide">{wide}</div><div class="narrow">{narrow}</div></section>\n'
    )
