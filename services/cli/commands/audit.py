"""`latchkey audit`: show the audit log."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import click

from services.approval.schemas.history import AuditPage
from services.cli.context import Context, with_context
from services.cli.invocation import Command
from services.cli.text.words import beginning, moment, safe

if TYPE_CHECKING:
    from services.approval.domain.records import AuditEntry
    from services.cli.client import ApprovalClient

PAGE_ENTRIES: Final = 1000


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  latchkey audit                              the last 20 entries
  latchkey audit --after 41 --limit 100       the entries after number 41
  latchkey audit --device eb62a6715dee
""",
)
@click.option("--after", type=click.IntRange(0), help="Show the first entries after this number.")
@click.option("--device", "device_id", help="Only this device: its id or the beginning of it.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@with_context
async def audit(context: Context, *, after: int | None, device_id: str | None, limit: int) -> None:
    """Show the audit log.

    Shows the latest entries, or the first after a number; oldest first.
    """
    async with context.approval() as approval:
        page = await _read(approval, after, (device_id or "").lower(), limit)
    if context.output.as_json:
        context.output.document(page)
        return
    for entry in page.entries:
        context.output.entry(*entry_parts(entry))
    if not page.entries:
        context.output.line("No entries.")


async def _read(approval: ApprovalClient, after: int | None, begins: str, limit: int) -> AuditPage:
    """Return the first entries after `after`, or the latest if it is None.

    Filtering by device reads all pages; without a filter, approval selects the entries.
    """
    if not begins:
        return await approval.audit(after, limit)
    place = after or 0
    newest: deque[AuditEntry] = deque(maxlen=limit)
    while True:
        page = await approval.audit(place, PAGE_ENTRIES)
        for entry in page.entries:
            if entry.device_id.startswith(begins):
                newest.append(entry)
                if after is not None and len(newest) == limit:
                    return AuditPage(list(newest), entry.id)
        if len(page.entries) < PAGE_ENTRIES:
            return AuditPage(list(newest), page.next)
        place = page.next


def entry_parts(entry: AuditEntry) -> tuple[str, str]:
    """Return an entry's main line and its details."""
    role = entry.role or ",".join(entry.roles)
    of_role = bool(entry.scopes) and all(scope.startswith(f"{role}.") for scope in entry.scopes)
    about = [
        ("request", entry.request_id),
        ("instead of", entry.superseded_request_id),
        ("role", "" if of_role else role),
        ("scopes", ",".join(entry.scopes)),
        ("label", entry.label),
        ("secret", entry.credential),
        ("from", entry.address),
    ]
    details = "  ".join(f"{name} {safe(value)}" for name, value in about if value)
    who = f"{safe(entry.action)} by {_actor(entry)}"
    return f"{entry.id:>6}  {moment(entry.at_ms)}  {beginning(entry.device_id, 16)}  {who}", details


def _actor(entry: AuditEntry) -> str:
    """Return the actor; a device by the beginning of its id."""
    kind, _, device_id = entry.actor.partition(" ")
    if kind != "device" or not device_id:
        return safe(entry.actor)
    return "itself" if device_id == entry.device_id else f"device {beginning(device_id, 16)}"
