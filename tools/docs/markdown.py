"""Markdown for generated pages. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NOTICE: Final = "<!-- Generated from the code by `make docs`. Do not edit. -->"
_PAGE: Final = re.compile(r"(?<!`)\bdocs/(\w+\.md)\b")


def page(title: str, introduction: str, *parts: str) -> str:
    """Return a page: the notice, its title, how it was made, and its parts."""
    made = f"{introduction} (Generated from the code by `make docs`.)"
    return "\n\n".join((NOTICE, f"# {title}", made, *parts)) + "\n"


def section(title: str, *parts: str) -> str:
    """Return a section of a page."""
    return "\n\n".join((f"## {title}", *parts))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table. Names of other pages become links."""
    lines = [_row(headings), "|" + "---|" * len(headings), *map(_row, rows)]
    return "\n".join(lines)


def code(text: str) -> str:
    """Return text as code."""
    return f"`{text}`"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_linked(cell).replace("|", "\\|") for cell in cells) + " |"


def _linked(cell: str) -> str:
    return _PAGE.sub(r"[docs/\1](../\1)", cell)
