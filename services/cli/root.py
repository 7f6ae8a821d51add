"""The command `latchkey` with all that it can do."""

from __future__ import annotations

import click

from services.cli.commands.audit import audit
from services.cli.commands.backup import backup, restore
from services.cli.commands.completion import completion
from services.cli.commands.devices import devices
from services.cli.commands.lockouts import lockouts
from services.cli.commands.make_secrets import secrets
from services.cli.commands.replicas import replicas
from services.cli.doctor.command import doctor
from services.cli.exits import Exit
from services.cli.invocation import Group
from shared.version import VERSION

_HELP = """Let devices in, keep others out, and find out what is wrong.

\b
  latchkey devices list                 who waits, and who is in
  latchkey devices approve --latest     look at the newest, and approve it
  latchkey devices why                  who was turned away lately, why, and what to do
  latchkey doctor wss://my-gateway      why does a device not get in?

Talks to the approval service at APPROVAL_URL with APPROVAL_ADMIN_TOKEN, both from the
environment; `make run` keeps the token in .data/secrets.env, which is read too.
"""
_EPILOG = "\b\nExit codes:\n" + "\n".join(
    f"  {code:<4} {code.meaning.replace('`', '')}" for code in Exit
)


@click.group(
    cls=Group,
    help=_HELP,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(VERSION, prog_name="latchkey")
def latchkey() -> None:
    """Let devices in, keep others out, and find out what is wrong."""


for _command in (devices, lockouts, replicas, audit, backup, restore, secrets, doctor, completion):
    latchkey.add_command(_command)
