"""`latchkey operators`: list, create and revoke operators."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click
from msgspec import UNSET

from services.approval.domain.operators import is_name
from services.approval.schemas.operators import CreatedOperator, OperatorList, RevokedOperator
from services.cli.config import OPERATOR_TOKEN
from services.cli.context import Context, with_context
from services.cli.errors import Misused
from services.cli.invocation import Command, Group, typed
from services.cli.text.expiry import EXPIRY_HELP, expiry_ms
from services.cli.text.words import ago, moment, safe

if TYPE_CHECKING:
    from services.approval.schemas.operators import OperatorObject

_MEANINGS: Final = {
    "view": "view: read every list and the audit log",
    "decide": "decide: also approve, reject, change and remove devices, lift lock-outs",
    "manage": "manage: also operators, rules, webhooks, backup and restore",
}


@click.group(cls=Group)
def operators() -> None:
    """List, create and revoke operators, each with a token and a permission of its own."""


@click.command(
    "list",
    cls=Command,
    epilog="\b\nExample:\n  latchkey operators list --json | jq '.operators[]'\n",
)
@with_context
async def list_operators(context: Context) -> None:
    """List operators with permission, last use and expiry."""
    async with context.approval() as approval:
        found = await approval.call("GET", "/v1/operators", OperatorList)
    if context.output.as_json:
        context.output.document(found)
        return
    now_ms = time.time_ns() // 1_000_000
    columns = ("operator", "permission", "last active", "created (UTC)", "by", "expires (UTC)")
    rows = [_row(one, now_ms) for one in found.operators]
    context.output.table(f"Operators ({len(rows)})", columns, rows)
    context.output.line("Create one:", "dim")
    context.output.line("  " + typed("operators create NAME --permission decide"), "dim")


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  latchkey operators create alice --permission decide
  latchkey operators create ci --permission view --expires 90d --json | jq -r .token
""",
)
@click.argument("name")
@click.option(
    "--permission",
    type=click.Choice([*_MEANINGS]),
    required=True,
    help="; ".join(_MEANINGS.values()) + ".",
)
@click.option("--expires", metavar="WHEN", help=f"{EXPIRY_HELP} Default: never.")
@with_context
async def create(context: Context, *, name: str, permission: str, expires: str | None) -> None:
    """Create operator NAME and print its token, which cannot be shown again."""
    if not is_name(name):
        raise Misused("no-name", "A name has 1 to 32 of a-z, 0-9 and -, beginning with a letter.")
    body: dict[str, str | int] = {"name": name, "permission": permission}
    if expires is not None:
        body["expiresAtMs"] = expiry_ms(expires, time.time_ns() // 1_000_000)
    async with context.approval() as approval:
        created = await approval.call("POST", "/v1/operators", CreatedOperator, body)
    if context.output.as_json:
        context.output.document(created)
        return
    ends = created.operator.expires_at_ms
    until = "" if ends is UNSET else f", until {moment(ends)} UTC"
    context.output.aside(f"Operator {name} may {permission}{until}. This token is shown only now:")
    context.output.line(safe(created.token))
    context.output.aside(
        f"Use it on the page, as `Authorization: Bearer`, or for this command as {OPERATOR_TOKEN}."
    )


@click.command(cls=Command, epilog="\b\nExample:\n  latchkey operators revoke alice --yes\n")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_context
async def revoke(context: Context, *, name: str, yes: bool) -> None:
    """Revoke the token of operator NAME, and end its sessions, at every replica at once."""
    if not is_name(name):
        raise Misused("no-name", "That is not an operator's name.", _list_hint())
    how = typed(f"operators revoke {name} --yes")
    context.confirm(f"Revoke operator {name}?", yes=yes, how=how)
    async with context.approval() as approval:
        done = await approval.call("DELETE", f"/v1/operators/{name}", RevokedOperator)
    if context.output.as_json:
        context.output.document(done)
    else:
        context.output.line(f"Revoked operator {name}. Its sessions have ended.")


def _row(one: OperatorObject, now_ms: int) -> list[str]:
    ends = "never" if one.expires_at_ms is UNSET else moment(one.expires_at_ms)
    return [
        safe(one.name),
        one.permission,
        "not known" if one.last_used_at_ms is UNSET else ago(one.last_used_at_ms, now_ms),
        "" if one.created_at_ms is UNSET else moment(one.created_at_ms),
        "APPROVAL_ADMIN_TOKEN" if one.created_by is UNSET else safe(one.created_by),
        f"{ends} (expired)" if one.expired else ends,
    ]


def _list_hint() -> str:
    return f"`{typed('operators list')}` lists them."


for _command in (list_operators, create, revoke):
    operators.add_command(_command)
