"""The table of a run."""

from __future__ import annotations

import textwrap
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HEADINGS: Final = ("client", "version", "as", "case", "expected", "seen", "ok")
WIDTHS: Final = (24, 9, 8, 20, 40, 40, 3)


def table(rows: Iterable[Sequence[str]]) -> str:
    """Return the rows below the headings, with wrapped cells."""
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
