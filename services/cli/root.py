"""The command `latchkey` with its subcommands."""

from __future__ import annotations

import click

from services.cli.commands.audit import audit
from services.cli.commands.backup import backup, restore
from services.cli.commands.completion import completion
from services.cli.commands.devices import devices
from services.cli.commands.export_openclaw import export
from services.cli.commands.import_openclaw import import_
from services.cli.commands.lockouts import lockouts
from services.cli.commands.make_secrets import secrets
from services.cli.commands.operators import operators
from services.cli.commands.replicas import replicas
from services.cli.commands.rules import rules
from services.cli.commands.upstream import upstream
from services.cli.commands.webhooks import webhooks
from services.cli.doctor.command import doctor
from services.cli.exits import Exit
from services.cli.invocation import Group
from shared.version import VERSION

_HELP = """Approve and manage devices, and diagnose connections.

\b
  latchkey devices list                 list pending requests and paired devices
  latchkey devices approve --latest     review the newest request and approve it
  latchkey devices why                  list recent refusals, with reasons and remedies
  latchkey doctor wss://my-gateway      find out why a device cannot connect

Uses the approval service at APPROVAL_URL with APPROVAL_OPERATOR_TOKEN or APPROVAL_ADMIN_TOKEN, from
the environment. The token that `make run` stores in .data/secrets.env is used too.
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
    """Approve and manage devices, and diagnose connections."""


for _command in (
    devices,
    lockouts,
    replicas,
    audit,
    operators,
    webhooks,
    rules,
    backup,
    restore,
    import_,
    export,
    secrets,
    doctor,
    upstream,
    completion,
):
    latchkey.add_command(_command)
