"""Interfaces that the bus expects from its caller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

Publish = Callable[[str, bytes], Awaitable[int]]
"""Publish sealed data on a channel; returns the number of subscribers.

Raises Unavailable("redis"). Publishes arrive in the order in which they were started.
"""


class Count(Protocol):
    """Increments one of the counters named in `counters`."""

    def __call__(self, name: str, amount: int = 1, **labels: str) -> None:
        """Add `amount` to counter `name`."""
        ...


def uncounted(name: str, amount: int = 1, **labels: str) -> None:
    """Ignore the count."""
