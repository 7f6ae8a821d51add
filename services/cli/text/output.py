"""Output of the command: tables and blocks for people, one JSON document for programs.

Text from clients goes through `safe`, and nothing is interpreted as markup. JSON is plain ASCII.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from services.cli.exits import Exit
from services.cli.text.words import escaped, safe, show_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from services.cli.errors import CommandError

WIDTH_IN_PIPES: Final = 100_000
"""Columns if the output is not a terminal: nothing is wrapped there."""

Row = tuple[str, str]


class Output:
    """Prints the results of one command to stdout and everything else to stderr."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._out = _console(stderr=False)
        self._err = _console(stderr=True)
        show_whole(whole=not self._out.is_terminal)

    @property
    def asks(self) -> bool:
        """Whether the operator can be asked for confirmation."""
        return not self.as_json and sys.stdin.isatty() and sys.stderr.isatty()

    def document(self, document: Any) -> None:
        """Print the JSON document of a command, or one line of a stream."""
        sys.stdout.write(json.dumps(msgspec.to_builtins(document)) + "\n")
        sys.stdout.flush()

    def line(self, text: str = "", style: str = "") -> None:
        """Print a line; text from clients in it must already be `safe`.

        Indented lines are commands to paste, so they are not wrapped.
        """
        _print(self._out, Text(text, style=style), whole=text.startswith("  "))

    def entry(self, head: str, details: str) -> None:
        """Print head and details on one line if they fit, else the details wrapped below."""
        whole = Text(f"{head}  {details}".rstrip())
        if len(whole) <= self._out.width:
            _print(self._out, whole)
            return
        self._out.print(Text(head), soft_wrap=True)
        self._out.print(Padding(Text(details, style="dim", overflow="fold"), (0, 0, 0, 8)))

    def aside(self, text: str = "", style: str = "") -> None:
        """Print a line that is not a result, to stderr; nothing with --json."""
        if not self.as_json:
            _print(self._err, Text(text, style=style))

    def step(self, mark: str, name: str, text: str, style: str = "") -> None:
        """Print one step of the doctor: a mark, the step, and its finding, wrapped."""
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(width=2, style=style)
        grid.add_column(width=10, no_wrap=True)
        grid.add_column(overflow="fold")
        grid.add_row(Text(mark), Text(name), Text(text))
        _print(self._out, grid)

    def block(self, title: str, rows: Iterable[Row], *, aside: bool = False) -> None:
        """Print a title and named values below it; empty values are omitted."""
        console = self._err if aside else self._out
        known = [(name, value) for name, value in rows if value]
        width = max((len(name) for name, _ in known), default=0)
        _print(console, Text(title, style="bold"))
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(width=width + 2, no_wrap=True, style="dim")
        grid.add_column(overflow="fold")
        for name, value in known:
            grid.add_row(Text(f"  {name}"), Text(value))
        _print(console, grid)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table; every cell is escaped here."""
        _print(self._out, Text(title, style="bold"))
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for number, column in enumerate(columns):
            table.add_column(column, overflow="fold", no_wrap=number == 0)  # an id is not wrapped
        for row in rows:
            table.add_row(*(Text("\n".join(map(safe, cell.split("\n")))) for cell in row))
        _print(self._out, table)

    def fail(self, error: CommandError) -> None:
        """Print an error and its advice."""
        if self.as_json:
            body = {"name": error.name, "message": error.message, "advice": list(error.advice)}
            self.document({"error": {"exitCode": int(error.exit), **body}})
            return
        prefix = "" if error.exit is Exit.NOT_CONFIRMED else "Error: "
        self._err.print(Text.assemble((prefix, "bold red"), escaped(error.message)))
        for line in error.advice:
            self._err.print(Text(escaped(line)))


def _print(console: Console, content: Text | Table, *, whole: bool = False) -> None:
    """Print; if not to a terminal, without trailing padding."""
    if console.is_terminal:
        console.print(content, soft_wrap=whole)
        return
    with console.capture() as captured:
        console.print(content)
    lines = captured.get().splitlines()
    console.file.write("".join(f"{line.rstrip()}\n" for line in lines or [""]))


def _console(*, stderr: bool) -> Console:
    styled: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    console = Console(
        stderr=stderr, color_system=styled, markup=False, highlight=False, emoji=False
    )
    if not console.is_terminal:
        console.width = WIDTH_IN_PIPES
    return console
