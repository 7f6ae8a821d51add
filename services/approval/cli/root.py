"""The command `latchkey` with all that it can do."""

from __future__ import annotations

import click

from services.approval.cli.auditing import audit
from services.approval.cli.backing_up import backup, restore
from services.approval.cli.completing import completion
from services.approval.cli.devices import devices
from services.approval.cli.doctor.command import doctor
from services.approval.cli.exits import Exit
from services.approval.cli.lockouts import lockouts
from services.approval.cli.making_secrets import secrets
from services.approval.cli.replicas import replicas
from services.approval.cli.typed import Group
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
