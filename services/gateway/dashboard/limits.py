"""Limits on concurrent dashboard responses; requests beyond them wait."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ANSWERS_LIMIT: Final = 256
ANSWERS_LIMIT_PER_ADDRESS: Final = 32
TURN_SECONDS: Final = 10.0


class ResponseLimiter:
    """Limits concurrent responses, in total and per address."""

    def __init__(
        self,
        *,
        limit: int = ANSWERS_LIMIT,
        limit_per_address: int = ANSWERS_LIMIT_PER_ADDRESS,
        turn_seconds: float = TURN_SECONDS,
    ) -> None:
        self._all = asyncio.Semaphore(limit)
        self._limit_per_address = limit_per_address
        self._turn_seconds = turn_seconds
        self._by_address: dict[str, asyncio.Semaphore] = {}
        self._there: Counter[str] = Counter()

    @property
    def asked_for(self) -> int:
        """The number of responses in progress or waiting."""
        return self._there.total()

    @asynccontextmanager
    async def place(self, address: str) -> AsyncIterator[None]:
        """Hold a slot for a response to an address. Raises TimeoutError if none becomes free."""
        of_address = self._by_address.setdefault(
            address, asyncio.Semaphore(self._limit_per_address)
        )
        self._there[address] += 1
        try:
            async with asyncio.timeout(self._turn_seconds) as waiting, of_address, self._all:
                waiting.reschedule(None)
                yield
        finally:
            self._there[address] -= 1
            if not self._there[address]:
                del self._there[address], self._by_address[address]
