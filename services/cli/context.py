"""Context and options shared by all commands."""

from __future__ import annotations

import asyncio
import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from services.cli.client import ApprovalClient
from services.cli.config import Config, with_secret_files
from services.cli.errors import CommandError, Misused, NotConfirmed
from services.cli.exits import Exit
from services.cli.text.output import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    _Function = Callable[..., Coroutine[Any, Any, int | None]]
    _Callback = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Context:
    """The configuration and output of one command."""

    config: Config
    output: Output

    def approval(self) -> ApprovalClient:
        """Return the API client as a context manager; its first call checks for a token."""
        config = self.config
        return ApprovalClient(config.approval_url, config.admin_token, config)

    def confirm(self, question: str, *, yes: bool, how: str) -> None:
        """Ask for confirmation unless `yes`; `how` is the command that needs none.

        Raises NotConfirmed.
        """
        if yes:
            return
        if not self.output.asks:
            raise NotConfirmed(
                "not-confirmed",
                "Not a terminal, so confirmation is not possible.",
                f"To confirm, run: {how}",
            )
        if not click.confirm(question, err=True):
            raise NotConfirmed("not-confirmed", "Nothing was changed.")


def with_context(function: _Function) -> _Callback:
    """Make a click callback from a coroutine whose first argument is a Context."""
    return with_context_options()(function)


def with_context_options(
    *, json_help: str = "Print one JSON document.", approval: bool = True
) -> Callable[[_Function], _Callback]:
    """Like `with_context`, with another --json help or without the options for approval."""

    def decorate(function: _Function) -> _Callback:
        @click.option("--json", "as_json", is_flag=True, help=json_help)
        @(_approval_options if approval else _no_options)
        @functools.wraps(function)
        def run(
            *,
            as_json: bool,
            approval_url: str | None = None,
            secrets_file: Path | None = None,
            **given: Any,
        ) -> None:
            environ = dict(os.environ)
            if approval_url:
                environ["APPROVAL_URL"] = approval_url
            output = Output(as_json=as_json)
            try:
                config = Config(with_secret_files(environ), secrets_file)
                code = asyncio.run(function(Context(config, output), **given))
            except CommandError as error:
                if isinstance(error, Misused) and not as_json:
                    raise click.UsageError("\n".join([error.message, *error.advice])) from None
                output.fail(error)
                code = error.exit
            except (KeyboardInterrupt, click.Abort):
                code = Exit.INTERRUPTED
            click.get_current_context().exit(int(code or Exit.OK))

        return run

    return decorate


def _approval_options(run: _Callback) -> _Callback:
    for option in (_SECRETS, _APPROVAL_URL):
        run = option(run)
    return run


def _no_options(run: _Callback) -> _Callback:
    return run


_APPROVAL_URL = click.option(
    "--approval-url",
    metavar="URL",
    help="Address of the approval service. Default: APPROVAL_URL, else the one `make run` started "
    "on this machine, else http://127.0.0.1:18790.",
)
_SECRETS = click.option(
    "--secrets",
    "secrets_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="File with secrets that are not in the environment. Default: .data/secrets.env.",
)
