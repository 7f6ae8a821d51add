"""Interfaces that the bus expects from its caller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

Publish = Callable[[str, bytes], Awaitable[int]]
"""Publish sealed data on a channel; returns the number of subscribers.

Raises Unavailable("redis"). Publishes arrive in the order in which they were started.
"""


class Count(Protocol):
    """Increments one of the counters named in `counters`."""

    def __call__(self, name: str, amount: int = 1, **labels: str) -> None:
        """Add `amount` to counter `name`."""
        ...

    def adder(self, name: str) -> Callable[[int], object]:
        """Return a function that adds to a counter without labels; called for each message."""
        ...


class Uncounted:
    """Ignores the counts."""

    def __call__(self, name: str, amount: int = 1, **labels: str) -> None:
        """Ignore a count."""

    def adder(self, name: str) -> Callable[[int], object]:
        """Return a function that ignores an amount."""
        return partial(self, name)


uncounted: Final = Uncounted()
