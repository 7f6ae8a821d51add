"""Minimal transaction plans for tests of commits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.approval.domain.records import AuditEntry
from services.approval.storage.changes.transaction import TransactionPlan
from services.approval.storage.changes.transaction_log import TransactionLog
from shared.rpc.messages import Changed, Position

if TYPE_CHECKING:
    from services.approval.storage.changes.transaction_log import Committed
    from services.approval.storage.store import Store


def plan(changes: int = 1) -> TransactionPlan:
    """Return a plan that only makes changes."""
    made = TransactionPlan()
    for number in range(changes):
        made.change(
            Changed(Position(), "", f"device {number}", "renamed", 5),
            AuditEntry("renamed", f"device {number}", "somebody", 5),
        )
    return made


async def run(store: Store, made: TransactionPlan) -> Committed:
    """Commit a plan; nothing is published."""
    return await TransactionLog(store, lambda _change: None).run(made)
