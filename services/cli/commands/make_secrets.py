"""`latchkey secrets`: generate values for the secret settings."""

from __future__ import annotations

import secrets as randomness
from typing import Final

import click

from services.cli.context import Context, with_context_options
from services.cli.invocation import Command

SECRET_BYTES: Final = 32
MEANINGS: Final = {
    "OPENCLAW_GATEWAY_TOKEN": "gateway: the token shared by all devices",
    "APPROVAL_ADMIN_TOKEN": "approval: the operators' token",
    "BUS_SECRET": "both, same value: encrypts and authenticates messages sent through Redis",
    "TOKEN_SECRET": "approval: key from which device tokens are derived",
    "UPSTREAM_SECRET": "gateway: authenticates it to the OpenClaw gateway behind it, if any",
}


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  latchkey secrets > .env && chmod 600 .env
  latchkey secrets BUS_SECRET                 a new value, to rotate it
""",
)
@click.argument("names", nargs=-1, metavar="[NAME]...", type=click.Choice(list(MEANINGS)))
@with_context_options(approval=False)
async def secrets(context: Context, *, names: tuple[str, ...]) -> None:
    """Generate secrets and print them as NAME=value lines. Nothing is stored."""
    made = {name: randomness.token_hex(SECRET_BYTES) for name in names or MEANINGS}
    if context.output.as_json:
        context.output.document(made)
        return
    for name, value in made.items():
        context.output.aside(f"# {MEANINGS[name]}", "dim")
        click.echo(f"{name}={value}")
