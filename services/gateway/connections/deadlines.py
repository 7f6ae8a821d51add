"""Calculates what is due in a sweep. Pure."""

from __future__ import annotations

from itertools import takewhile
from math import ceil
from typing import TYPE_CHECKING, Final

from services.gateway.replication.replica import CLOSING_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.gateway.connections.connection import Connection

SWEEP_SECONDS: Final = CLOSING_SECONDS
"""The interval between sweeps: one of them closes everything between service and lease ending."""


def due(queue: Iterable[Connection], now: float) -> list[Connection]:
    """Return the connections whose deadline has passed, without removing them.

    The queue must be sorted by deadline.
    """
    return list(takewhile(lambda connection: connection.deadline <= now, queue))


def share_due(count: int, now: float, until: float) -> int:
    """Return how many of `count` are due in this sweep if all must be done at `until`."""
    return ceil(count / max(1, int((until - now) / SWEEP_SECONDS)))
