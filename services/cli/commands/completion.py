"""`latchkey completion`: print a shell completion script."""

from __future__ import annotations

import shlex
from typing import Final

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from services.cli.invocation import Command
from shared.calling import LAUNCHER, NAME

COMPLETE_VARIABLE: Final = "_LATCHKEY_COMPLETE"
"""The variable in which a shell asks for completions."""
_KINDS: Final[dict[str, type[ShellComplete]]] = {
    "bash": BashComplete,
    "zsh": ZshComplete,
    "fish": FishComplete,
}


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  eval "$(latchkey completion bash)"                               in ~/.bashrc
  eval "$(latchkey completion zsh)"                                in ~/.zshrc, after compinit
  latchkey completion fish > ~/.config/fish/completions/latchkey.fish
""",
)
@click.argument("shell", type=click.Choice([*_KINDS]))
def completion(shell: str) -> None:
    """Print a shell completion script.

    It completes `latchkey`, whether found on PATH or called by its path.
    """
    click.echo(script(shell))


def script(shell: str) -> str:
    """Return the script. It calls this installation, even if `latchkey` is not on PATH."""
    about = _KINDS[shell](click.Command(NAME), {}, NAME, COMPLETE_VARIABLE)
    text = about.source_template % about.source_vars()
    launcher = shlex.quote(str(LAUNCHER)) if LAUNCHER.exists() else NAME
    if shell == "bash":
        return text.replace("=bash_complete $1)", f"=bash_complete {launcher})")
    if shell == "zsh":
        text = text.replace(f"    (( ! $+commands[{NAME}] )) && return 1\n", "")
        return text.replace(f"=zsh_complete {NAME})", f"=zsh_complete {launcher})")
    return text.replace(f"(commandline -t) {NAME})", f"(commandline -t) {launcher})")
