"""The table of a run: one row per fault, over all its cases and rounds."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tools.drills.fault import Back

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tools.drills.fault import Fault
    from tools.drills.judging.judge import Verdict

HEADINGS: Final = (
    "fault",
    "times",
    "let in wrongly",
    "approvals lost",
    "decided twice",
    "revoke to closed",
    "in again",
    "sessions kept (promised)",
    "held",
)
NOTHING: Final = "-"


@dataclass(slots=True)
class Row:
    """A fault and its results."""

    fault: Fault
    verdicts: list[Verdict] = field(default_factory=list)
    disturbed: int = 0
    """How often a case was repeated because the machine stalled."""

    @property
    def held(self) -> bool:
        """Whether every promise was kept every time."""
        return not any(verdict.violations for verdict in self.verdicts)

    def cells(self) -> tuple[str, ...]:
        """Return the cells of the row; times as median and maximum."""
        verdicts = self.verdicts
        lost = [verdict.lost for verdict in verdicts if verdict.lost is not None]
        return (
            self.fault.name,
            str(len(verdicts)),
            str(sum(verdict.wrong for verdict in verdicts)),
            str(sum(lost)) if lost else "n/a",
            str(sum(verdict.doubled for verdict in verdicts)),
            _spread([verdict.revoke_seconds for verdict in verdicts]),
            _spread([verdict.back_seconds for verdict in verdicts]) + self._mark(),
            self._kept(),
            "yes" if self.held else "NO",
        )

    def _mark(self) -> str:
        return "*" if self.fault.promise.back is Back.FROM_END else ""

    def _kept(self) -> str:
        stored, held = (
            sum(verdict.kept for verdict in self.verdicts),
            sum(verdict.held for verdict in self.verdicts),
        )
        to_keep = sum(verdict.to_keep for verdict in self.verdicts)
        return f"{stored} of {held} ({to_keep})"


LEGEND: Final = (
    "Times in seconds: median, maximum. Revoke to closed: from the response to the revocation of a "
    "device\nconnected to every gateway until its last connection is closed; at a paused gateway, "
    "from its resumption.\nIn again: from the start of the fault (with *: its end) until every "
    "churning device was admitted."
)


def totals(rows: Iterable[Row]) -> str:
    """Summarise the attempts."""
    rows = list(rows)
    verdicts = [verdict for row in rows for verdict in row.verdicts]
    disturbed = sum(row.disturbed for row in rows)
    again = f"; {disturbed} cases repeated because the machine stalled" if disturbed else ""
    return (
        f"{sum(verdict.let_in for verdict in verdicts)} admissions, "
        f"{sum(verdict.turned_away for verdict in verdicts)} attempts of unauthorised devices, "
        f"{sum(verdict.approved for verdict in verdicts)} approvals, "
        f"{sum(verdict.revoke_seconds is not None for verdict in verdicts)} revokes{again}"
    )


def failovers(rows: Iterable[Row]) -> str:
    """Return how long after a failover the first device was admitted; empty without one."""
    lines = [
        f"{row.fault.name}: {spread}"
        for row in rows
        if (spread := _spread([verdict.failover_seconds for verdict in row.verdicts])) != NOTHING
    ]
    return "\n".join(("From the failover to an admission:", *lines)) if lines else ""


def table(rows: Iterable[Row]) -> str:
    """Return the rows below the headings, as Markdown."""
    lines = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(HEADINGS))]
    ruler = tuple("-" * width for width in widths)
    return "\n".join(_line(cells, widths) for cells in (lines[0], ruler, *lines[1:]))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True))
    return f"| {' | '.join(padded)} |"


def _spread(values: Sequence[float | None]) -> str:
    seconds = [value for value in values if value is not None]
    if not seconds:
        return NOTHING
    if len(seconds) == 1:
        return f"{seconds[0]:.2f}"
    return f"{statistics.median(seconds):.2f}, {max(seconds):.2f}"
