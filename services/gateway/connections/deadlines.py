"""What is due in a sweep: deadlines that have passed, and shares of what is spread over time."""

from __future__ import annotations

from itertools import takewhile
from math import ceil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.gateway.connections.connection import Connection

SWEEP_SECONDS: Final = 0.25
"""From one sweep to the next."""


def due(queue: Iterable[Connection], now: float) -> list[Connection]:
    """Return those at the head of a queue whose deadline has passed; the queue stays as it is.

    The queue is in the order of deadlines.
    """
    return list(takewhile(lambda connection: connection.deadline <= now, queue))


def share_due(count: int, now: float, until: float) -> int:
    """Return how many of `count` are due in this sweep, if all are to be by then."""
    return ceil(count / max(1, int((until - now) / SWEEP_SECONDS)))
