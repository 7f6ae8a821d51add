"""`latchkey replicas`: which gateways and approvals live."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from msgspec import UNSET

from services.cli.context import Context, at_desk
from services.cli.invocation import Command
from services.cli.words import length, replica_name

if TYPE_CHECKING:
    from services.approval.schemas import devices


@click.command(
    cls=Command, epilog="\b\nExample:\n  latchkey replicas --json | jq '.gateways | length'\n"
)
@at_desk
async def replicas(desk: Context) -> None:
    """Show the live gateways with their connections, the live approvals, and each one's release."""
    async with desk.approval() as approval:
        live = await approval.replicas()
    if desk.output.as_json:
        desk.output.document(live)
        return
    rows = [
        [
            replica_name(one.boot_id),
            str(one.connections),
            f"{length(one.last_beat_ago_ms)} ago",
            "not known yet" if one.changes_behind is UNSET else str(one.changes_behind),
            *_process(one),
        ]
        for one in live.gateways
    ]
    columns = ("replica", "connections", "last beat", "changes behind", "release", "running for")
    desk.output.table(f"Gateways ({len(rows)})", columns, rows)
    desk.output.line()
    alive = [
        [replica_name(one.boot_id), f"{length(one.last_alive_ago_ms)} ago", *_process(one)]
        for one in live.approvals
    ]
    desk.output.table(
        f"Approvals ({len(alive)})", ("replica", "last alive", "release", "running for"), alive
    )


def _process(one: devices.GatewayAlive | devices.ApprovalAlive) -> list[str]:
    """Return the release and the uptime; a replica of an older release does not tell them."""
    if one.version is UNSET or one.uptime_seconds is UNSET:
        return ["not told", "not told"]
    return [one.version, length(one.uptime_seconds * 1000)]
