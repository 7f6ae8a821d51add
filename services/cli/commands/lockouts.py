"""`latchkey lockouts`: list and lift lock-outs."""

from __future__ import annotations

import ipaddress
import time
from typing import TYPE_CHECKING, Final

import click
from msgspec import UNSET

from services.approval.schemas.lockouts import Lockouts
from services.cli.context import Context, with_context
from services.cli.errors import ApiError, Misused
from services.cli.invocation import Command, Group, typed
from services.cli.text.words import length, moment, safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.approval.schemas.lockouts import LockoutObject

SECRETS: Final = {
    "shared-secret": "gateway token",
    "device-token": "device token",
    "bootstrap-token": "setup code",
    "admin-token": "operator token",
}


@click.group(cls=Group)
def lockouts() -> None:
    """List and lift lock-outs after too many wrong secrets."""


@click.command(
    "list", cls=Command, epilog="\b\nExample:\n  latchkey lockouts list --json | jq '.lockouts[]'\n"
)
@with_context
async def list_lockouts(context: Context) -> None:
    """List locked-out addresses with secret and time left."""
    async with context.approval() as approval:
        found = await approval.lockouts()
    if context.output.as_json:
        context.output.document(Lockouts(found))
        return
    if not found:
        context.output.line("No addresses are locked out.")
        return
    now_ms = time.time_ns() // 1_000_000
    rows = [
        [
            _shown(item),
            SECRETS[item.credential],
            moment(item.since_ms),
            f"{length(item.until_ms - now_ms)} left",
            str(item.failures),
        ]
        for item in found
    ]
    columns = ("address", "secret", "since (UTC)", "ends", "wrong values")
    context.output.table(f"Locked out ({len(rows)})", columns, rows)
    context.output.line("Lift one:", "dim")
    context.output.line("  " + typed("lockouts lift ADDRESS"), "dim")


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  latchkey lockouts lift 203.0.113.7
  latchkey lockouts lift 203.0.113.7 --secret device-token --yes
""",
)
@click.argument("address")
@click.option(
    "--secret", type=click.Choice([*SECRETS]), help="Only lock-outs for this secret. Default: all."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_context
async def lift(context: Context, *, address: str, secret: str | None, yes: bool) -> None:
    """Lift the lock-outs of ADDRESS on every replica.

    Wrong values already counted are not counted again, so clients that keep sending them do not
    cause another lock-out. An IPv6 address stands for its whole /64.
    """
    async with context.approval() as approval:
        found = [
            lockout
            for lockout in await approval.lockouts()
            if _applies_to(lockout, address) and secret in {None, lockout.credential}
        ]
        if not found:
            raise ApiError(
                "unknown-lockout",
                "this address is not locked out",
                f"`{typed('lockouts list')}` lists those that are.",
            )
        narrowed = f" --secret {secret}" if secret else ""
        command = typed(f"lockouts lift {found[0].address}{narrowed} --yes")
        names = _names(found)
        context.confirm(f"Lift the lock-out of {_shown(found[0])} ({names})?", yes=yes, how=command)
        lifted = [await approval.lift_lockout(item.credential, item.address) for item in found]
    if context.output.as_json:
        context.output.document(Lockouts(lifted))
    else:
        context.output.line(f"Lifted the lock-out of {_shown(found[0])} ({names}).")


def _applies_to(lockout: LockoutObject, typed_address: str) -> bool:
    """Return whether a lock-out applies to this address or network."""
    if typed_address in {lockout.address, lockout.network}:
        return True
    try:
        given = ipaddress.ip_address(typed_address)
    except ValueError:
        try:
            return lockout.network is not UNSET and ipaddress.ip_network(
                typed_address
            ) == ipaddress.ip_network(lockout.network)
        except ValueError:
            raise Misused(
                "no-address", "that is not an IP address or network", _list_hint()
            ) from None
    if lockout.network is not UNSET:
        return given in ipaddress.ip_network(lockout.network)
    mapped = given.ipv4_mapped if isinstance(given, ipaddress.IPv6Address) else None
    return lockout.address == str(mapped or given)


def _list_hint() -> str:
    return f"`{typed('lockouts list')}` lists the locked-out addresses."


def _shown(lockout: LockoutObject) -> str:
    return safe(lockout.address if lockout.network is UNSET else lockout.network)


def _names(found: Sequence[LockoutObject]) -> str:
    return ", ".join(SECRETS[item.credential] for item in found)


for _command in (list_lockouts, lift):
    lockouts.add_command(_command)
