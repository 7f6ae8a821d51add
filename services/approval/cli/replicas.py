"""`latchkey replicas`: which gateways and approvals live."""

from __future__ import annotations

import click
from msgspec import UNSET

from services.approval.cli.desk import Desk, at_desk
from services.approval.cli.typed import Command
from services.approval.cli.words import length


@click.command(
    cls=Command, epilog="\b\nExample:\n  latchkey replicas --json | jq '.gateways | length'\n"
)
@at_desk
async def replicas(desk: Desk) -> None:
    """Show the live gateways, with their connections, and the live approvals."""
    async with desk.approval() as approval:
        live = await approval.replicas()
    if desk.output.as_json:
        desk.output.document(live)
        return
    rows = [
        [
            one.boot_id,
            str(one.connections),
            f"{length(one.last_beat_ago_ms)} ago",
            "not known yet" if one.changes_behind is UNSET else str(one.changes_behind),
        ]
        for one in live.gateways
    ]
    desk.output.table(
        f"Gateways ({len(rows)})", ("replica", "connections", "last beat", "changes behind"), rows
    )
    desk.output.line()
    alive = [[one.boot_id, f"{length(one.last_alive_ago_ms)} ago"] for one in live.approvals]
    desk.output.table(f"Approvals ({len(alive)})", ("replica", "last alive"), alive)
