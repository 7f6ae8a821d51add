"""`latchkey replicas`: list the live replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from msgspec import UNSET

from services.cli.context import Context, with_context
from services.cli.invocation import Command
from services.cli.words import length, replica_name

if TYPE_CHECKING:
    from services.approval.schemas import devices


@click.command(
    cls=Command, epilog="\b\nExample:\n  latchkey replicas --json | jq '.gateways | length'\n"
)
@with_context
async def replicas(context: Context) -> None:
    """List live gateways and approvals.

    Shows the release and uptime of each, and the connections of gateways.
    """
    async with context.approval() as approval:
        live = await approval.replicas()
    if context.output.as_json:
        context.output.document(live)
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
    columns = ("replica", "connections", "last heartbeat", "changes behind", "release", "uptime")
    context.output.table(f"Gateways ({len(rows)})", columns, rows)
    context.output.line()
    alive = [
        [replica_name(one.boot_id), f"{length(one.last_alive_ago_ms)} ago", *_process(one)]
        for one in live.approvals
    ]
    context.output.table(
        f"Approvals ({len(alive)})", ("replica", "last seen", "release", "uptime"), alive
    )


def _process(one: devices.GatewayAlive | devices.ApprovalAlive) -> list[str]:
    """Return release and uptime, which older releases do not report."""
    if one.version is UNSET or one.uptime_seconds is UNSET:
        return ["unknown", "unknown"]
    return [one.version, length(one.uptime_seconds * 1000)]
