"""`latchkey devices watch`: follow the audit log; reconnects to any replica."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import click
import msgspec

from services.approval.domain.records import AuditEntry
from services.cli.commands.audit import entry_parts
from services.cli.context import Context, with_context_options
from services.cli.errors import CommandError, OutcomeUnknown, Unreachable
from services.cli.invocation import Command, typed

if TYPE_CHECKING:
    from services.cli.client import ApprovalClient

COME_BACK_SECONDS: Final = 1.0


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  latchkey devices watch                      until Ctrl-C
  latchkey devices watch --json --count 1     wait for one event
""",
)
@click.option("--after", type=click.IntRange(0), help="Start after this number of the audit log.")
@click.option("--count", type=click.IntRange(1), help="Exit after this many events.")
@with_context_options(json_help="Print JSON, one object per line.")
async def watch(context: Context, *, after: int | None, count: int | None) -> None:
    """Print events as they happen."""
    place, left, reached = after, count, False
    context.output.aside("Watching; press Ctrl-C to stop.", "dim")
    async with context.approval() as approval:
        while True:
            try:
                async for number, name, data in approval.events(place):
                    reached, place = True, number
                    if not name:
                        continue
                    await _print_event(context, approval, number, name, data)
                    if left is not None and (left := left - 1) == 0:
                        return
            except (Unreachable, OutcomeUnknown):
                if not reached:
                    raise
                context.output.aside("Connection lost; reconnecting ...", "dim")
            await asyncio.sleep(COME_BACK_SECONDS)


async def _waits(approval: ApprovalClient, request_id: str) -> bool:
    """Return whether a request is still pending; the event may be old."""
    try:
        return any(request.request_id == request_id for request in await approval.pending())
    except CommandError:
        return False


async def _print_event(
    context: Context, approval: ApprovalClient, number: int, name: str, data: bytes
) -> None:
    if name == "reset":
        listing = typed("devices list")
        missed = f"Some events were missed. For the current state, run: {listing}"
        if context.output.as_json:
            context.output.document({"action": "reset", "id": number})
        else:
            context.output.line(missed, "yellow")
        return
    entry = msgspec.json.decode(data, type=AuditEntry)
    if context.output.as_json:
        context.output.document(entry)
        return
    context.output.entry(*entry_parts(entry))
    if entry.action == "requested" and await _waits(approval, entry.request_id):
        context.output.line("    " + typed(f"devices approve {entry.request_id}"), "dim")
