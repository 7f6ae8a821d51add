"""The table of a run: one row a fault, over all its cases and rounds."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.drills.fault import Fault
    from tests.drills.judge import Verdict

HEADINGS: Final = (
    "fault",
    "times",
    "let in wrongly",
    "approvals lost",
    "decided twice",
    "revoke to closed, s",
    "in again, s",
    "sessions kept",
    "held",
)
NOTHING: Final = "-"


@dataclass(slots=True)
class Row:
    """A fault, and what came of it each time."""

    fault: Fault
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def held(self) -> bool:
        """Whether every promise was held each time."""
        return not any(one.violations for one in self.verdicts)

    def cells(self) -> tuple[str, ...]:
        """Return the row in words; of times the median and the most."""
        verdicts = self.verdicts
        lost = [one.lost for one in verdicts if one.lost is not None]
        return (
            self.fault.name,
            str(len(verdicts)),
            str(sum(one.wrong for one in verdicts)),
            str(sum(lost)) if lost else "n/a",
            str(sum(one.doubled for one in verdicts)),
            _spread([one.revoke_seconds for one in verdicts]),
            _spread([one.back_seconds for one in verdicts]),
            self._kept(),
            "yes" if self.held else "NO",
        )

    def _kept(self) -> str:
        kept, held = sum(one.kept for one in self.verdicts), sum(one.held for one in self.verdicts)
        to_keep = sum(one.to_keep for one in self.verdicts)
        return f"{kept} of {held}, {to_keep} promised"


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
    return f"{statistics.median(seconds):.2f} (most {max(seconds):.2f})"
