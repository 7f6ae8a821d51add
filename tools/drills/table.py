"""The table of a run: one row per fault, over all its cases and rounds."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tools.drills.fault import Back

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tools.drills.fault import Fault
    from tools.drills.judge import Verdict

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
        return not any(one.violations for one in self.verdicts)

    def cells(self) -> tuple[str, ...]:
        """Return the cells of the row; times as median and maximum."""
        verdicts = self.verdicts
        lost = [one.lost for one in verdicts if one.lost is not None]
        return (
            self.fault.name,
            str(len(verdicts)),
            str(sum(one.wrong for one in verdicts)),
            str(sum(lost)) if lost else "n/a",
            str(sum(one.doubled for one in verdicts)),
            _spread([one.revoke_seconds for one in verdicts]),
            _spread([one.back_seconds for one in verdicts]) + self._mark(),
            self._kept(),
            "yes" if self.held else "NO",
        )

    def _mark(self) -> str:
        return "*" if self.fault.promise.back is Back.FROM_END else ""

    def _kept(self) -> str:
        kept, held = sum(one.kept for one in self.verdicts), sum(one.held for one in self.verdicts)
        to_keep = sum(one.to_keep for one in self.verdicts)
        return f"{kept} of {held} ({to_keep})"


LEGEND: Final = (
    "Times in seconds: median, maximum. Revoke to closed: from the response to the revocation of a "
    "device\nconnected to every gateway until its last connection is closed; at a paused gateway, "
    "from its resumption.\nIn again: from the start of the fault (with *: its end) until every "
    "churning device was admitted."
)


def totals(rows: Iterable[Row]) -> str:
    """Summarise the attempts."""
    rows = list(rows)
    verdicts = [one for row in rows for one in row.verdicts]
    disturbed = sum(row.disturbed for row in rows)
    again = f"; {disturbed} cases repeated because the machine stalled" if disturbed else ""
    return (
        f"{sum(one.let_in for one in verdicts)} admissions, "
        f"{sum(one.turned_away for one in verdicts)} attempts of unauthorised devices, "
        f"{sum(one.approved for one in verdicts)} approvals, "
        f"{sum(one.revoke_seconds is not None for one in verdicts)} revokes{again}"
    )


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
