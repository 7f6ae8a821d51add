"""Commands of ours as one types them here: what a hint or an example prints can be pasted."""

from __future__ import annotations

import re
import shlex
from typing import Final

import click
from click.core import ParameterSource

from shared.calling import NAME

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
    """A group whose examples are called as it was."""

    def get_help(self, ctx: click.Context) -> str:
        """Return the help."""
        return _as_called(super().get_help(ctx), ctx)


def _as_called(text: str, context: click.Context) -> str:
    name = _called(context)
    return _EXAMPLE.sub(lambda found: f"{found[1]}{name} ", text)


def _called(context: click.Context) -> str:
    return context.find_root().info_name or NAME
