"""A bounded queue that can end; items from before the end are still delivered."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Keeps the newest `limit` items; `dropped` counts unread items that were displaced."""

    def __init__(self, limit: int) -> None:
        self.dropped = 0
        self._items: deque[T] = deque(maxlen=limit)
        self._waiters: set[asyncio.Future[None]] = set()
        self._error: Exception | None = None

    def put(self, item: T) -> None:
        """Add an item and wake the reader."""
        if len(self._items) == self._items.maxlen:
            self.dropped += 1
        self._items.append(item)
        self._wake()

    def end(self, error: Exception) -> None:
        """End the queue: from now on, an empty mailbox raises this error."""
        self._error = error
        self._wake()

    async def get(self) -> T:
        """Return the oldest item, waiting for one if necessary."""
        while not self._items:
            if self._error is not None:
                raise self._error
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
        return self._items.popleft()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
