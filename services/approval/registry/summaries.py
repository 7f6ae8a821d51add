"""Writes audit log summaries of entries above a source's hourly limit."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from services.approval.domain.records import AuditEntry
from services.approval.storage.changes.transaction import (
    ADDRESS_ENTRIES_PER_HOUR,
    DEVICE_ENTRIES_PER_HOUR,
    HOUR_MS,
    Transaction,
)
from services.approval.storage.keys import LEFT_OUT, counter_key
from shared.rpc.messages import Changed, Position

if TYPE_CHECKING:
    from services.approval.storage.changes.transaction_log import TransactionLog
    from services.approval.storage.store import Store

SUMMARISED: Final = "left-out"
"""Action of a summary in the audit log."""
SUMMARIES_PER_ROUND: Final = 50
"""Max. summaries written per round; the rest waits for the next."""


async def write_due(store: Store, ledger: TransactionLog) -> int:
    """Write a summary for each source and hour that is over; return how many.

    Each is written once, by whichever replica is first. Raises StoreUnavailable.
    """
    written = 0
    for member in await store.audit_log.left_out(store.now_ms(), SUMMARIES_PER_ROUND):
        written += await _write(store, ledger, member)
    return written


async def _write(store: Store, ledger: TransactionLog, member: str) -> bool:
    hour, _, source = member.partition(":")
    kind, _, name = source.partition(":")
    key = counter_key(source, int(hour) if hour.isdecimal() else 0)
    value = await store.audit_log.counted(key)
    entry = Transaction("limit", store.now_ms())
    entry.plan.write("ZREM", LEFT_OUT, member)
    limit = ADDRESS_ENTRIES_PER_HOUR if kind == "address" else DEVICE_ENTRIES_PER_HOUR
    if value.isdecimal() and int(value) > limit:
        entry.plan.expect(key, value)
        entry.plan.write("DEL", key)
        device_id = name if kind == "device" else ""
        entry.plan.note(
            Changed(Position(), "", device_id, SUMMARISED, entry.now_ms),
            AuditEntry(
                SUMMARISED,
                device_id,
                "limit",
                entry.now_ms,
                label=f"{int(value) - limit} more entries in the hour from {_moment(int(hour))}",
                address=name if kind == "address" else "",
            ),
        )
    return (await ledger.commit(entry)).outcome == "done"


def _moment(hour: int) -> str:
    return datetime.fromtimestamp(hour * HOUR_MS / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
