"""Interfaces that the bus expects from its caller."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.bus.errors import Unavailable


class Sent(Protocol):
    """A message on its way."""

    def give_up(self) -> None:
        """Cancel the message: it is not published if it still waits, and nobody is called."""
        ...


class Send(Protocol):
    """Publishes sealed data on a channel, in the order of the calls."""

    def __call__(
        self, channel: str, data: bytes, then: Callable[[int | Unavailable], object]
    ) -> Sent:
        """Publish; `then` gets the number of subscribers, or Unavailable, in a later turn.

        Raises Unavailable("redis") if nothing can be published now.
        """
        ...


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
