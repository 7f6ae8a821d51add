"""Unauthenticated connections: their number per address, and their deadlines."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from services.gateway.connections.deadlines import due

if TYPE_CHECKING:
    from services.gateway.connections.connection import Connection


class PendingHandshakes:
    """Unauthenticated connections, in the order of their deadlines."""

    def __init__(self, *, limit_per_address: int) -> None:
        self._limit_per_address = limit_per_address
        self._waiting: dict[Connection, None] = {}
        self._by_address: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def is_full(self, limit_key: str) -> bool:
        """Return whether an address has reached its limit."""
        return self.count(limit_key) >= self._limit_per_address

    def count(self, limit_key: str) -> int:
        """Return the number of unauthenticated connections from an address."""
        return self._by_address[limit_key]

    def add(self, connection: Connection) -> None:
        """Add a connection; its deadline must not be earlier than any already here."""
        self._waiting[connection] = None
        self._by_address[connection.limit_key] += 1

    def discard(self, connection: Connection) -> None:
        """Remove a connection if present."""
        if connection not in self._waiting:
            return
        del self._waiting[connection]
        left = self._by_address[connection.limit_key] - 1
        if left:
            self._by_address[connection.limit_key] = left
        else:
            del self._by_address[connection.limit_key]

    def due(self, now: float) -> list[Connection]:
        """Return the connections whose deadline has passed."""
        return due(self._waiting, now)
