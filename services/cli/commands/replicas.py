"""`latchkey replicas`: list the live replicas."""

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
    """List live gateways and approvals with connections, release and uptime."""
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
    columns = ("replica", "connections", "last heartbeat", "changes behind", "release", "uptime")
    desk.output.table(f"Gateways ({len(rows)})", columns, rows)
    desk.output.line()
    alive = [
        [replica_name(one.boot_id), f"{length(one.last_alive_ago_ms)} ago", *_process(one)]
        for one in live.approvals
    ]
    desk.output.table(
        f"Approvals ({len(alive)})", ("replica", "last seen", "release", "uptime"), alive
    )


def _process(one: devices.GatewayAlive | devices.ApprovalAlive) -> list[str]:
    """Return release and uptime, which older releases do not report."""
    if one.version is UNSET or one.uptime_seconds is UNSET:
        return ["unknown", "unknown"]
    return [one.version, length(one.uptime_seconds * 1000)]
