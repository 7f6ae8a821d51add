"""What the bus takes from whoever puts it together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

Publish = Callable[[str, bytes], Awaitable[int]]
"""Publish sealed data on a channel; how many subscribers Redis handed it to.

Raises Unavailable("redis"). Two publishes started one after the other arrive in that order.
"""


class Count(Protocol):
    """Adds to one of the counters named in `counters`."""

    def __call__(self, name: str, amount: int = 1, **labels: str) -> None:
        """Add `amount` to counter `name`."""
        ...


def uncounted(name: str, amount: int = 1, **labels: str) -> None:
    """Count nothing."""
