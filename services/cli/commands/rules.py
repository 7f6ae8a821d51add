"""`latchkey rules`: list, try out, add and remove approval rules."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from services.approval.domain.operators import is_name
from services.approval.schemas.rules import AddedRule, RemovedRule, RuleList, RuleTrial
from services.cli.context import Context, with_context
from services.cli.errors import Misused
from services.cli.invocation import Command, Group, typed
from services.cli.text.expiry import EXPIRY_HELP, expiry_ms
from services.cli.text.words import beginning, moment, safe, scope_in_words
from shared.protocol.signing import decode_public_key, device_id_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.approval.schemas.rules import RuleObject, TriedRequest

_PARTS = {
    "expired": "the rule has expired",
    "role": "another role",
    "network": "another network",
    "device": "another device",
    "scopes": "asks for more scopes",
    "admin": "asks for a scope that lets it approve others",
    "changed-device": "a paired device that has changed",
    "revoked": "its token was revoked by a person",
}


@click.group(cls=Group)
def rules() -> None:
    """List, try out, add and remove rules that approve devices without a person."""


@click.command(
    "list", cls=Command, epilog="\b\nExample:\n  latchkey rules list --json | jq '.rules[]'\n"
)
@with_context
async def list_rules(context: Context) -> None:
    """List rules with what they cover, their use and expiry."""
    async with context.approval() as approval:
        found = await approval.call("GET", "/v1/rules", RuleList)
    if context.output.as_json:
        context.output.document(found)
        return
    if not found.rules:
        context.output.line("No rules: a person approves every device.")
        return
    columns = ("rule", "state", "approves at most", "for", "used", "expires (UTC)", "by")
    context.output.table(f"Rules ({len(found.rules)})", columns, [_row(one) for one in found.rules])


def _of_rule(run: Callable[..., None]) -> Callable[..., None]:
    """Add the options that describe a rule."""
    for option in (
        click.option(
            "--allow-admin",
            is_flag=True,
            help="Allow scopes that let devices approve others, such as operator.admin.",
        ),
        click.option("--count", type=int, default=1, show_default=True, help="Max. approvals."),
        click.option("--expires", metavar="WHEN", required=True, help=EXPIRY_HELP),
        click.option("--key", "keys", multiple=True, help="A device, by its public key."),
        click.option("--device", "devices", multiple=True, help="A device, by its id."),
        click.option(
            "--network",
            "networks",
            multiple=True,
            metavar="CIDR",
            help="Addresses, as the gateway reports them; for nodes only.",
        ),
        click.option("--scope", "scopes", multiple=True, help="A scope it may approve."),
        click.option("--role", type=click.Choice(["node", "operator"]), required=True),
        click.argument("name"),
    ):
        run = option(run)
    return run


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  latchkey rules add kiosks --role node --network 192.0.2.0/24 --count 20 --expires 7d
  latchkey rules add laptop --role operator --scope operator.write --device ID --expires 12h
""",
)
@_of_rule
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_context
async def add(context: Context, *, yes: bool, **given: Any) -> None:
    """Add rule NAME, after showing what it would approve now."""
    body = _body(given)
    async with context.approval() as approval:
        trial = await approval.call("POST", "/v1/rule-trials", RuleTrial, body)
        if not yes:
            _show(context, trial, aside=True)
        context.confirm(
            f"Add rule {given['name']}? It approves up to {given['count']} devices by itself.",
            yes=yes,
            how=typed(f"rules add {given['name']} … --yes"),
        )
        added = await approval.call("POST", "/v1/rules", AddedRule, body)
    if context.output.as_json:
        context.output.document(added)
    else:
        ends = moment(added.rule.expires_at_ms)
        context.output.line(f"Added rule {added.rule.name}, until {ends} UTC.")


@click.command(
    cls=Command,
    epilog="""\b
Example:
  latchkey rules test kiosks --role node --network 192.0.2.0/24 --expires 7d
""",
)
@_of_rule
@with_context
async def test(context: Context, **given: Any) -> None:
    """Show what rule NAME would approve of the requests that wait, and of earlier ones."""
    async with context.approval() as approval:
        trial = await approval.call("POST", "/v1/rule-trials", RuleTrial, _body(given))
    if context.output.as_json:
        context.output.document(trial)
    else:
        _show(context, trial, aside=False)


@click.command(cls=Command, epilog="\b\nExample:\n  latchkey rules remove kiosks --yes\n")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_context
async def remove(context: Context, *, name: str, yes: bool) -> None:
    """Remove rule NAME at every replica at once. What it approved stays approved."""
    if not is_name(name):
        raise Misused("no-name", "That is not a rule's name.")
    context.confirm(f"Remove rule {name}?", yes=yes, how=typed(f"rules remove {name} --yes"))
    async with context.approval() as approval:
        done = await approval.call("DELETE", f"/v1/rules/{name}", RemovedRule)
    if context.output.as_json:
        context.output.document(done)
    else:
        context.output.line(f"Removed rule {name}. It had approved {done.removed.used}.")


def _body(given: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": given["name"],
        "role": given["role"],
        "scopes": list(given["scopes"]),
        "networks": list(given["networks"]),
        "deviceIds": [*given["devices"], *map(_id_of, given["keys"])],
        "expiresAtMs": expiry_ms(given["expires"], time.time_ns() // 1_000_000),
        "count": given["count"],
        "allowAdmin": given["allow_admin"],
    }


def _id_of(key: str) -> str:
    decoded = decode_public_key(key)
    if decoded is None:
        raise Misused("no-key", f"{key!r} is not a device's public key.")
    return device_id_of(decoded)


def _row(one: RuleObject) -> list[str]:
    who = [*one.networks, *(f"device {beginning(id_, 16)}" for id_ in one.device_ids)]
    return [
        one.name,
        one.state,
        "\n".join([one.role, *map(safe, one.scopes)]),
        "\n".join(who),
        f"{one.used} of {one.count}",
        moment(one.expires_at_ms),
        safe(one.created_by),
    ]


def _show(context: Context, trial: RuleTrial, *, aside: bool) -> None:
    line = context.output.aside if aside else context.output.line
    for title, found in (("waiting now", trial.pending), ("in the audit log", trial.past)):
        approved = [one for one in found if one.approved]
        line(f"Of {len(found)} requests {title}, the rule would approve {len(approved)}.")
        for one in approved[:20]:
            line(f"  {_tried(one)}")
    for one in [one for one in trial.pending if not one.approved][:20]:
        line(f"  not {_tried(one)}: {_PARTS.get(str(one.uncovered), 'not covered')}")


def _tried(one: TriedRequest) -> str:
    asked = ", ".join(_scopes(one.scopes)) or "no scopes"
    return (
        f"{moment(one.at_ms)}  device {beginning(one.device_id, 16)}  {safe(one.role)}  "
        f"{asked}  from {safe(one.address)}"
    )


def _scopes(scopes: Sequence[str]) -> list[str]:
    return [f"{safe(one)} ({scope_in_words(one)})" for one in scopes]


for _command in (list_rules, test, add, remove):
    rules.add_command(_command)
