"""Markdown tables: medians and ranges of rounds, and ratios to the first subject. Pure."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from tools.load.report.notes import SATURATED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tools.bench.measuring import Figures


def churn_table(title: str, rounds: Mapping[str, Sequence[Figures]]) -> str:
    """Return rates and CPU of several subjects; the ratio is the last one's to the first one's.

    Rounds alternate between subjects, so that each one is compared with its neighbour in time.
    """
    rows = [
        (
            name,
            spread([item.per_second for item in found], "{:,.0f}"),
            spread([item.cpu_us for item in found], "{:,.0f}"),
            spread([per_core(item) for item in found], "{:,.0f}"),
            load(found),
        )
        for name, found in rounds.items()
    ]
    if len(rounds) > 1:
        first, *_, last = rounds.values()
        rows.append(
            (
                "ratio, last to first",
                ratio(first, last, lambda item: item.per_second),
                ratio(first, last, lambda item: item.cpu_us),
                ratio(first, last, per_core),
                "",
            )
        )
    heads = ("", "a second", "CPU µs each", "a second by CPU", "load")
    return _with_remarks(title, heads, rows, rounds)


def latency_table(title: str, rounds: Mapping[str, Sequence[Figures]]) -> str:
    """Return latencies of several subjects."""
    rows = [
        (
            name,
            spread([item.per_second for item in found], "{:,.0f}"),
            spread([item.p50_ms for item in found], "{:.1f}"),
            spread([item.p99_ms for item in found], "{:.1f}"),
            load(found),
        )
        for name, found in rounds.items()
    ]
    return _with_remarks(title, ("", "a second", "p50 ms", "p99 ms", "load"), rows, rounds)


def plain_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of values measured once."""
    lines = [_line(heads), _line(["---"] * len(heads)), *(_line(row) for row in rows)]
    return "\n".join([f"\n### {title}\n", *lines])


def per_core(figures: Figures) -> float:
    """Return the rate that the CPU of the servers' core allows."""
    return 1e6 / figures.cpu_us if figures.cpu_us else 0.0


def spread(values: Sequence[float], form: str) -> str:
    """Return the median, with minimum and maximum if there are several values."""
    middle = form.format(statistics.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({form.format(min(values))} to {form.format(max(values))})"


def ratio(
    first: Sequence[Figures], last: Sequence[Figures], value: Callable[[Figures], float]
) -> str:
    """Return median and range of the ratio of the last to the first, round by round."""
    pairs = [
        value(mine) / value(theirs)
        for theirs, mine in zip(first, last, strict=True)
        if value(theirs)
    ]
    return spread(pairs, "{:.2f}") if pairs else ""


def load(found: Sequence[Figures]) -> str:
    """Return the load of the busiest worker, and whether it was saturated."""
    busy = statistics.median(item.load for item in found)
    return f"saturated: {busy:.0%} of its core" if busy >= SATURATED else f"{busy:.0%}"


def _with_remarks(
    title: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    rounds: Mapping[str, Sequence[Figures]],
) -> str:
    remarks = [
        f"\n{name}: {wrong}"
        for name, found in rounds.items()
        for wrong in dict.fromkeys(item.wrong for item in found if item.wrong)
    ]
    if any(load(found).startswith("saturated") for found in rounds.values()):
        remarks.append("\nWhere the load is saturated, read the columns of CPU, not the rate.")
    return plain_table(title, heads, rows) + "".join(remarks)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
