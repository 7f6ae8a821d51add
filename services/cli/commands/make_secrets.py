"""`latchkey secrets`: a good value for every secret setting."""

from __future__ import annotations

import secrets as randomness
from typing import Final

import click

from services.cli.context import Context, at_desk_with
from services.cli.invocation import Command

SECRET_BYTES: Final = 32
MEANINGS: Final = {
    "OPENCLAW_GATEWAY_TOKEN": "gateway: the shared token that devices bring along",
    "APPROVAL_ADMIN_TOKEN": "approval: the operators' token",
    "BUS_SECRET": "both, the same value: seals what travels over Redis",
    "TOKEN_SECRET": "approval: device tokens are derived with it",
}


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  latchkey secrets > .env && chmod 600 .env
  latchkey secrets BUS_SECRET                 one new value, to rotate it
""",
)
@click.argument("names", nargs=-1, metavar="[NAME]...", type=click.Choice(list(MEANINGS)))
@at_desk_with(approval=False)
async def secrets(desk: Context, *, names: tuple[str, ...]) -> None:
    """Make new secrets and print them as NAME=value lines. Nothing is stored."""
    made = {name: randomness.token_hex(SECRET_BYTES) for name in names or MEANINGS}
    if desk.output.as_json:
        desk.output.document(made)
        return
    for name, value in made.items():
        desk.output.aside(f"# {MEANINGS[name]}", "dim")
        click.echo(f"{name}={value}")
