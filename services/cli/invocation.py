"""Commands as they must be typed here, so that hints and examples can be pasted."""

from __future__ import annotations

import difflib
import re
import shlex
from typing import TYPE_CHECKING, Final

import click
from click.core import ParameterSource

from shared.calling import NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_ALONG: Final = {"approval_url": "--approval-url", "secrets_file": "--secrets"}
"""Options that the next command needs too, to reach the same approval service."""
_EXAMPLE: Final = re.compile(rf"(?m)^( +){NAME} ")


def command_name() -> str:
    """Return the name the command was called by."""
    context = click.get_current_context(silent=True)
    return NAME if context is None else _called(context)


def typed(arguments: str) -> str:
    """Return a `latchkey` command line, with this call's options that locate approval."""
    context = click.get_current_context(silent=True)
    if context is None:
        return f"{NAME} {arguments}"
    along = [
        f" {option} {shlex.quote(str(context.params[name]))}"
        for name, option in _ALONG.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    return f"{_called(context)} {arguments}{''.join(along)}"


class Command(click.Command):
    """A command whose help shows the name it was called by."""

    def get_help(self, ctx: click.Context) -> str:
        """Return the help text."""
        return _as_called(super().get_help(ctx), ctx)


class Group(click.Group):
    """A group that suggests the right command for one it does not have."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that was typed; raises UsageError with suggestions."""
        name, *more = args
        if ctx.resilient_parsing or name.startswith("-") or self.get_command(ctx, name):
            return super().resolve_command(ctx, args)
        elsewhere = [path for path in _paths(ctx) if path[-1] == name]
        hints = [typed(shlex.join([*path, *more])) for path in elsewhere]
        if not hints:
            known = {" ".join(path): path for path in _paths(ctx)}
            near = [path for path in known.values() if path[-1] in _near(name, known.values())]
            hints = [typed(shlex.join(path)) for path in near]
        shown = "".join(f"\n  {hint}" for hint in hints)
        meant = "\nDid you mean:" + shown if shown else ""
        raise click.UsageError(f"No such command: `{ctx.command_path} {name}`.{meant}", ctx)

    def get_help(self, ctx: click.Context) -> str:
        """Return the help text."""
        return _as_called(super().get_help(ctx), ctx)


def _paths(context: click.Context) -> list[tuple[str, ...]]:
    """Return the path of every command and group."""

    def below(group: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if isinstance(group, click.Group):
            for name, command in group.commands.items():
                yield (*path, name)
                yield from below(command, (*path, name))

    return list(below(context.find_root().command, ()))


def _near(name: str, paths: Iterable[tuple[str, ...]]) -> list[str]:
    return difflib.get_close_matches(name, {path[-1] for path in paths}, n=2)


def _as_called(text: str, context: click.Context) -> str:
    name = _called(context)
    return _EXAMPLE.sub(lambda found: f"{found[1]}{name} ", text)


def _called(context: click.Context) -> str:
    return context.find_root().info_name or NAME
