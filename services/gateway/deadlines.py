"""Queues in the order of deadlines."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.gateway.connection import Connection


def due(queue: Iterable[Connection], now: float) -> list[Connection]:
    """Return those at the head of a queue whose deadline has passed; the queue stays as it is."""
    return list(takewhile(lambda connection: connection.deadline <= now, queue))
