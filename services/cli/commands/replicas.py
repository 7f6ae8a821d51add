"""`latchkey replicas`: list the live replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from msgspec import UNSET

from services.cli.context import Context, with_context
from services.cli.invocation import Command
from services.cli.text.words import length, replica_name

if TYPE_CHECKING:
    from services.approval.schemas.replicas import ApprovalAlive, GatewayAlive


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
            replica_name(gateway.boot_id),
            str(gateway.connections),
            f"{length(gateway.last_beat_ago_ms)} ago",
            "not known yet" if gateway.changes_behind is UNSET else str(gateway.changes_behind),
            *_process(gateway),
        ]
        for gateway in live.gateways
    ]
    columns = ("replica", "connections", "last heartbeat", "changes behind", "release", "uptime")
    context.output.table(f"Gateways ({len(rows)})", columns, rows)
    context.output.line()
    alive = [
        [
            replica_name(approval.boot_id),
            f"{length(approval.last_alive_ago_ms)} ago",
            *_process(approval),
        ]
        for approval in live.approvals
    ]
    context.output.table(
        f"Approvals ({len(alive)})", ("replica", "last seen", "release", "uptime"), alive
    )


def _process(item: GatewayAlive | ApprovalAlive) -> list[str]:
    """Return release and uptime, which older releases do not report."""
    if item.version is UNSET or item.uptime_seconds is UNSET:
        return ["unknown", "unknown"]
    return [item.version, length(item.uptime_seconds * 1000)]
