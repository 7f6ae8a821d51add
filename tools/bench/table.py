"""Markdown tables: medians and ranges of rounds, and ratios within rounds. Pure but for the count of cores."""

from __future__ import annotations

import os
import statistics
from typing import TYPE_CHECKING

from tools.load.report.notes import SATURATED
from tools.load.server.machine import OtherUse, use_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tools.bench.measuring import Figures

    Cell = Callable[[Sequence[Figures]], str]
    """Makes a cell from the rounds of a row's subject."""
    Rounds = Mapping[str, Sequence[Figures]]
    """The rounds of each subject; all subjects have their turn in every round."""


def figures_table(
    title: str,
    rounds: Rounds,
    columns: Mapping[str, Cell],
    *,
    missing: Iterable[str] = (),
) -> str:
    """Return a table with a row for each subject, and what limits its meaning below it."""
    rows = [
        (name, *(cell(found) for cell in columns.values()), servers(found), load(found))
        for name, found in rounds.items()
    ]
    rows += [(name, "not installed", *[""] * (len(columns) + 1)) for name in missing]
    remarks = [
        f"{name}: {wrong}"
        for name, found in rounds.items()
        for wrong in dict.fromkeys(item.wrong for item in found if item.wrong)
    ]
    if any(load(found).startswith("saturated") for found in rounds.values()):
        remarks.append(
            "Where the load is saturated and the servers are not, read the columns of CPU, not the rate."
        )
    if busy := busy_rounds(rounds):
        remarks.append(f"**{busy}**")
    return "\n\n".join([plain_table(title, ("", *columns, "servers", "load"), rows), *remarks])


def plain_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of values measured once."""
    lines = [_line(heads), _line(["---"] * len(heads)), *(_line(row) for row in rows)]
    return "\n".join([f"\n### {title}\n", *lines])


def rates(found: Sequence[Figures]) -> str:
    """Return a cell: decisions per second."""
    return spread([item.per_second for item in found], "{:,.0f}")


def costs(found: Sequence[Figures]) -> str:
    """Return a cell: CPU of all servers per decision, in microseconds."""
    return spread([item.cpu_us for item in found], "{:,.0f}")


def shares(found: Sequence[Figures]) -> str:
    """Return a cell: the CPU per decision of each kind of process, if there are several."""
    roles = list(found[0].cpu_us_by_role)
    if len(roles) < 2:
        return ""
    return ", ".join(
        f"{role} {statistics.median(item.cpu_us_by_role.get(role, 0.0) for item in found):,.0f}"
        for role in roles
    )


def p50(found: Sequence[Figures]) -> str:
    """Return a cell: the median latency."""
    return spread([item.p50_ms for item in found], "{:.2f}")


def p99(found: Sequence[Figures]) -> str:
    """Return a cell: the latency that one of a hundred exceeds."""
    return spread([item.p99_ms for item in found], "{:.1f}")


def start_delays(found: Sequence[Figures]) -> str:
    """Return a cell: how late the load itself started one of a hundred attempts."""
    return spread([item.start_delay_p99_ms for item in found], "{:.1f}")


def rate_to(reference: Sequence[Figures]) -> Cell:
    """Return the cell with the ratio of the rates."""
    return lambda found: ratio(reference, found, lambda item: item.per_second)


def cost_to(reference: Sequence[Figures]) -> Cell:
    """Return the cell with the ratio of the CPU per decision."""
    return lambda found: ratio(reference, found, lambda item: item.cpu_us)


def spread(values: Sequence[float], form: str) -> str:
    """Return the median, with minimum and maximum if there are several values."""
    middle = form.format(statistics.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({form.format(min(values))} to {form.format(max(values))})"


def ratio(
    reference: Sequence[Figures], found: Sequence[Figures], value: Callable[[Figures], float]
) -> str:
    """Return median and range of the ratios to the reference, each within one round.

    The machine's speed changes with time, and affects all subjects of a round alike.
    """
    if found is reference:
        return ""
    pairs = [
        value(mine) / value(theirs)
        for theirs, mine in zip(reference, found, strict=True)
        if value(theirs)
    ]
    return spread(pairs, "{:.2f}") if pairs else ""


def servers(found: Sequence[Figures]) -> str:
    """Return a cell: the CPU of all servers together, as a share of a core."""
    return f"{statistics.median(item.per_second * item.cpu_us for item in found) / 1e6:.0%}"


def load(found: Sequence[Figures]) -> str:
    """Return the load of the busiest worker, and whether it was saturated."""
    busy = statistics.median(item.load for item in found)
    return f"saturated: {busy:.0%} of its core" if busy >= SATURATED else f"{busy:.0%}"


def busy_rounds(rounds: Rounds, cores: int | None = None) -> str:
    """Say in which rounds other programs used too much of the machine; empty if in none."""
    total = max(len(found) for found in rounds.values())
    busy = [
        (number, item.others)
        for each in rounds.values()
        for number, item in enumerate(each, 1)
        if item.others is not None and item.others.is_busy
    ]
    if not busy:
        return ""
    numbers = sorted({number for number, _ in busy})
    most = OtherUse(max(use.programs for _, use in busy), max(use.stolen for _, use in busy))
    return (
        f"The machine was too busy in {len(numbers)} of {total} rounds "
        f"({', '.join(map(str, numbers))}): at most, "
        f"{use_text(most, cores or os.cpu_count() or 1)}. Measure again when it is idle."
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
