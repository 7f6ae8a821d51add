"""A queue that takes one item of each client in turn. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

Item = TypeVar("Item", bound="Hashable")


class FairQueue(Generic[Item]):
    """Waiting items by client; within a client, first in, first out.

    `_clients` is in the order in which the clients' turns come. `_deeper_than[n]` holds the clients
    with more than n waiting items, so the client with the most is found without a search.
    """

    def __init__(self) -> None:
        self._clients: dict[str, dict[Item, None]] = {}
        self._deeper_than: list[dict[str, None]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def count(self, client: str) -> int:
        """Return how many items of a client wait."""
        return len(self._clients.get(client, ()))

    def ahead(self, client: str) -> int:
        """Return how many items would be taken before a new one of this client."""
        return sum(map(len, self._deeper_than[: self.count(client) + 1]))

    def add(self, client: str, item: Item) -> None:
        """Add an item."""
        items = self._clients.setdefault(client, {})
        if len(items) == len(self._deeper_than):
            self._deeper_than.append({})
        self._deeper_than[len(items)][client] = None
        items[item] = None
        self._count += 1

    def take(self, may_run: Callable[[str], bool]) -> tuple[str, Item] | None:
        """Remove and return the next item, skipping clients that may not run another one."""
        client = next(filter(may_run, self._clients), None)
        if client is None:
            return None
        items = self._clients[client]
        item = next(iter(items))
        self.remove(client, item)
        if items:
            self._clients[client] = self._clients.pop(client)  # to the end: the others come first
        return client, item

    def remove(self, client: str, item: Item) -> None:
        """Remove a waiting item."""
        items = self._clients[client]
        del items[item]
        if not items:
            del self._clients[client]
        self._count -= 1
        deepest = self._deeper_than[len(items)]
        del deepest[client]
        if not deepest:
            self._deeper_than.pop()

    def newest_of_largest(self) -> tuple[str, Item]:
        """Return the newest item of the client with the most items; the queue is not empty."""
        client = next(iter(self._deeper_than[-1]))
        return client, next(reversed(self._clients[client]))
