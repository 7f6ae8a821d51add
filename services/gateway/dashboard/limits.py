"""How many of the dashboard's answers may be under way; who comes beyond that waits its turn."""

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
    """Places for answers: so many in all, so many for one address."""

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
        """How many places are held or waited for."""
        return self._there.total()

    @asynccontextmanager
    async def place(self, address: str) -> AsyncIterator[None]:
        """Hold a place for an address. Raises TimeoutError when none becomes free."""
        own = self._by_address.setdefault(address, asyncio.Semaphore(self._limit_per_address))
        self._there[address] += 1
        try:
            async with asyncio.timeout(self._turn_seconds) as waiting, own, self._all:
                waiting.reschedule(None)
                yield
        finally:
            self._there[address] -= 1
            if not self._there[address]:
                del self._there[address], self._by_address[address]
