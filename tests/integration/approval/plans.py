"""Plans for commits that are about nothing in particular."""

from __future__ import annotations

from services.approval.plan import AuditEntry, Plan
from shared.messages import Change, Changed


def plan(changes: int = 1) -> Plan:
    """Return a plan that makes some changes and nothing else."""
    made = Plan()
    for number in range(changes):
        made.change(
            Changed(Change(), "", f"device {number}", "renamed", 5),
            AuditEntry("renamed", f"device {number}", "somebody", 5),
        )
    return made
