"""The settings of a run, and its figures as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tools.drills.stack.settings import (
    APPROVALS,
    BEAT_SECONDS,
    DRAIN_SECONDS,
    GATEWAYS,
    LEASE_SECONDS,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.drills.judging.table import Row


def settings_line() -> str:
    """Describe the deployment and its shortened settings."""
    return (
        f"{GATEWAYS} gateways, {APPROVALS} approvals, HAProxy, a fault proxy before Redis for each "
        f"of them;\nshortened: LEASE_SECONDS={LEASE_SECONDS:g} BEAT_SECONDS={BEAT_SECONDS:g} "
        f"DRAIN_SECONDS={DRAIN_SECONDS:g}"
    )


def as_json(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the settings, and the figures of each case of each fault."""
    return {
        "lease_seconds": LEASE_SECONDS,
        "beat_seconds": BEAT_SECONDS,
        "drain_seconds": DRAIN_SECONDS,
        "faults": [
            {
                "fault": row.fault.name,
                "hits": row.fault.promise.hits.value,
                "held": row.held,
                "disturbed": row.disturbed,
                "times": [asdict(verdict) for verdict in row.verdicts],
            }
            for row in rows
        ],
    }
