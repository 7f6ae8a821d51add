"""Limits concurrent store writes; rejects with BUSY if the wait would be too long."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from shared.rpc.responder import BUSY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.rpc.responder import Reply

PLACES: Final = 6
"""Max. requests that use the store's connections at once, besides the read for each message."""
WAIT_SECONDS: Final = 0.5
"""Max. wait for a slot. After that the answer is BUSY, and gateways try another replica."""
_SMOOTHING: Final = 8
"""Number of recent jobs over which their duration is averaged, approximately."""


class WriteLimiter:
    """Runs work in order of arrival with limited concurrency; answers BUSY when overloaded."""

    def __init__(self, places: int = PLACES, wait_seconds: float = WAIT_SECONDS) -> None:
        self._places = places
        self._wait_seconds = wait_seconds
        self._free = asyncio.Semaphore(places)
        self._under_way = 0
        self._average_seconds = 0.0

    @property
    def under_way(self) -> int:
        """Number of jobs accepted and not yet finished."""
        return self._under_way

    def reply(self, work: Callable[[], Awaitable[Reply]]) -> Reply | asyncio.Future[Reply]:
        """Start work once a slot is free; return BUSY at once if that would take too long."""
        if self._under_way >= self._places and self._expected_seconds > self._wait_seconds:
            return BUSY
        self._under_way += 1
        replying = asyncio.ensure_future(self._run(work))
        replying.add_done_callback(self._finished)
        return replying

    @property
    def _expected_seconds(self) -> float:
        """Expected time until all accepted jobs have finished."""
        return self._under_way * self._average_seconds / self._places

    async def _run(self, work: Callable[[], Awaitable[Reply]]) -> Reply:
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
            self._average_seconds += (now() - began - self._average_seconds) / _SMOOTHING
            self._free.release()

    def _finished(self, _replying: asyncio.Future[Reply]) -> None:
        self._under_way -= 1
