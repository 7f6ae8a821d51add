"""Commands of ours as one types them here: what a hint or an example prints can be pasted."""

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
"""Options without which the next command would talk to somebody else, or without a token."""
_EXAMPLE: Final = re.compile(rf"(?m)^( +){NAME} ")


def command_name() -> str:
    """Return how the command was called."""
    context = click.get_current_context(silent=True)
    return NAME if context is None else _called(context)


def typed(arguments: str) -> str:
    """Return a command of ours, with the options given here that say where approval is."""
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
    """A command whose examples are called as it was."""

    def get_help(self, ctx: click.Context) -> str:
        """Return the help."""
        return _as_called(super().get_help(ctx), ctx)


class Group(click.Group):
    """A group whose examples are called as it was; it knows where a command is that it has not."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that was typed; raises UsageError with the one that may be meant."""
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
        raise click.UsageError(f"There is no command `{ctx.command_path} {name}`.{meant}", ctx)

    def get_help(self, ctx: click.Context) -> str:
        """Return the help."""
        return _as_called(super().get_help(ctx), ctx)


def _paths(context: click.Context) -> list[tuple[str, ...]]:
    """Return every command of ours by the words that lead to it."""

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
