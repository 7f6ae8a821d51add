"""Counters of the relay, as plain numbers: counting a frame must cost next to nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class RelayCounts:
    """Totals since the start. `up` is from clients to the upstream."""

    frames_up: int = 0
    bytes_up: int = 0
    frames_down: int = 0
    bytes_down: int = 0
    approved: int = 0
    """Devices approved at the upstream."""
    approvals_failed: int = 0
    outages: int = 0
