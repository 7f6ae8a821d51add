"""The exit statuses of a drill."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tools.drills.judging.table import Row

HELD: Final = 0
VIOLATED: Final = 1
MISSING: Final = 2
INTERRUPTED: Final = 130


def exit_of(rows: Iterable[Row], *, broken: bool = False) -> int:
    """Return the exit status; `broken`: a round was not completed."""
    return HELD if not broken and all(row.verdicts and row.held for row in rows) else VIOLATED
