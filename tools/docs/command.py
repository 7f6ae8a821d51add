"""Page on the command `latchkey`: its subcommands and exit codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from services.cli.exits import Exit
from services.cli.root import latchkey
from tools.docs.markdown import code, page, section, table

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIMIT_CHARACTERS = 200


def command() -> str:
    """Return the page of the command."""
    return page(
        "The command `latchkey`",
        "`--help` after any of these shows its options and examples."
        " [Operations](../operations.md#the-command) explains how to use it.",
        section("Subcommands", table(("command", "does"), _commands(latchkey, "latchkey"))),
        section(
            "Exit codes",
            table(("code", "when"), [(str(int(item)), item.meaning) for item in Exit]),
        ),
    )


def _commands(group: click.Group, name: str) -> Iterator[tuple[str, str]]:
    for word, item in sorted(group.commands.items()):
        full = f"{name} {word}"
        if isinstance(item, click.Group):
            yield from _commands(item, full)
        else:
            yield code(full), item.get_short_help_str(_LIMIT_CHARACTERS)
