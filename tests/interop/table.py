"""The table of a run."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.interop.cases import Case
    from tests.interop.facts import Facts

HEADINGS: Final = ("client", "version", "role", "case", "expected", "seen", "ok")
WIDTHS: Final = (24, 8, 8, 20, 40, 40, 3)


@dataclass(slots=True)
class Row:
    """One case of one role, and what was seen in each round."""

    role: str
    case: Case
    seen: list[Facts] = field(default_factory=list)

    @property
    def right(self) -> int:
        """The number of rounds that were as expected."""
        return sum(facts == self.case.expected for facts in self.seen)

    def cells(self, rounds: int) -> tuple[str, ...]:
        """Return role, case, expected, seen (each that differs) and ok."""
        seen = dict.fromkeys(", ".join(facts) for facts in self.seen)
        return (
            self.role,
            self.case.name,
            ", ".join(self.case.expected),
            " / ".join(seen) or "not come to",
            f"{self.right}/{rounds}",
        )


def table(rows: Iterable[Sequence[str]]) -> str:
    """Return the rows below the headings, cells wrapped."""
    lines = [*_lines(HEADINGS), *_lines(["-" * width for width in WIDTHS])]
    for row in rows:
        lines += _lines(row)
    return "\n".join(lines)


def _lines(cells: Sequence[str]) -> list[str]:
    wrapped = [textwrap.wrap(cell, width) for cell, width in zip(cells, WIDTHS, strict=True)]
    return [
        "  ".join(f"{part:{width}}" for part, width in zip(parts, WIDTHS, strict=True)).rstrip()
        for parts in zip_longest(*wrapped, fillvalue="")
    ]
