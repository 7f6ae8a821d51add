"""Minimal transaction plans for tests of commits."""

from __future__ import annotations

from services.approval.domain.audit import AuditEntry
from services.approval.storage.transaction import TransactionPlan
from shared.rpc.messages import Changed, Position


def plan(changes: int = 1) -> TransactionPlan:
    """Return a plan that only makes changes."""
    made = TransactionPlan()
    for number in range(changes):
        made.change(
            Changed(Position(), "", f"device {number}", "renamed", 5),
            AuditEntry("renamed", f"device {number}", "somebody", 5),
        )
    return made
