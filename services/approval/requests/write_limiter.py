"""What questions write, so much of it at a time: who would wait too long is told at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from shared.rpc.responder import BUSY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.rpc.responder import Reply

PLACES: Final = 6
"""How many questions use the store's connections at once, besides the read of each message."""
WAIT_SECONDS: Final = 0.5
"""Who would wait longer for a place is answered busy: after that, askers ask another replica."""
_SMOOTHING: Final = 8
"""Over about so many pieces of work it is averaged how long one takes."""


class WriteLimiter:
    """Carries out work for questions, in the order it came; BUSY for what it has no time for."""

    def __init__(self, places: int = PLACES, wait_seconds: float = WAIT_SECONDS) -> None:
        self._places = places
        self._wait_seconds = wait_seconds
        self._free = asyncio.Semaphore(places)
        self._under_way = 0
        self._usual_seconds = 0.0

    @property
    def under_way(self) -> int:
        """How much work was taken and has not ended."""
        return self._under_way

    def reply(self, work: Callable[[], Awaitable[Reply]]) -> Reply | asyncio.Future[Reply]:
        """Begin work as soon as there is a place; BUSY at once where that would take too long."""
        if self._under_way >= self._places and self._expected_seconds > self._wait_seconds:
            return BUSY
        self._under_way += 1
        replying = asyncio.ensure_future(self._carried_out(work))
        replying.add_done_callback(self._ended)
        return replying

    @property
    def _expected_seconds(self) -> float:
        """How long it takes until all that was taken has ended."""
        return self._under_way * self._usual_seconds / self._places

    async def _carried_out(self, work: Callable[[], Awaitable[Reply]]) -> Reply:
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._free.acquire()
        except TimeoutError:
            return BUSY
        now = asyncio.get_running_loop().time
        began = now()
        try:
            return await work()
        finally:
            self._usual_seconds += (now() - began - self._usual_seconds) / _SMOOTHING
            self._free.release()

    def _ended(self, _replying: asyncio.Future[Reply]) -> None:
        self._under_way -= 1
