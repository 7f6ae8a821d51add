"""The plots of a report page: rates, latencies, percentiles, servers."""

from __future__ import annotations

from html import escape
from itertools import cycle
from typing import TYPE_CHECKING, Final

from tools.load.report.plots import NARROW_WIDTH, WIDTH, Line, Scale, Unit, plot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tools.load.report.report import Report
    from tools.load.server.servers import ServerPoint

MAX_POINTS: Final = 400
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
        Line("admitted", [(point.at, point.admitted) for point in points], "a"),
        Line("refused", [(point.at, point.refused) for point in points], "b"),
        Line("other", [(point.at, point.others) for point in points], "c"),
    ]
    held = Line("held", [(point.at, float(point.held)) for point in points], "d")
    times = [
        Line("p50", [(point.at, point.p50_ms) for point in points if point.p50_ms], "a"),
        Line("p99", [(point.at, point.p99_ms) for point in points if point.p99_ms], "c"),
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
    step = max(1, len(points) // MAX_POINTS)
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
    roles = dict(zip(dict.fromkeys(server.role for server in report.servers), cycle("abcdef")))

    def lines(value: Callable[[ServerPoint], float]) -> list[Line]:
        return [
            Line(
                role,
                [(server.at, value(server)) for server in report.servers if server.role == role],
                kind,
            )
            for role, kind in roles.items()
        ]

    cpu = lines(lambda item: item.busy * 100)
    memory = lines(lambda item: item.rss_bytes / 2**20)
    descriptors = lines(lambda item: float(item.descriptors))
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
