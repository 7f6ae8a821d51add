"""Announces this replica in Redis, and learns Redis's time with each announcement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from services.approval.storage.presence import (
    ALIVE_KEPT_MS,
    APPROVALS,
    approval_key,
    encode_process,
)
from services.approval.storage.reaching import reaching_redis

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from shared.clock import Clock


class LivenessStore:
    """Announces this replica. Every method but `now_ms` may raise StoreUnavailable."""

    def __init__(self, client: Redis, clock: Clock) -> None:
        self._client: Any = client  # its types allow bytes and str; all values here are bytes
        self._clock = clock
        self._offset_ms: float | None = None

    def now_ms(self) -> int:
        """Return Redis's time as last learned; it is the common clock of all approval replicas."""
        if self._offset_ms is None:
            return self._clock.wall_ms()
        return int(self._clock.monotonic() * 1000 + self._offset_ms)

    async def write_alive(self, boot_id: str, *, uptime_s: int = 0) -> None:
        """Record that this replica is alive, and learn Redis's time."""
        if self._offset_ms is None:
            await self._learn_time()
        now_ms = self.now_ms()
        began = self._clock.monotonic()
        async with reaching_redis():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.zadd(APPROVALS, {boot_id: now_ms})
            pipeline.zremrangebyscore(APPROVALS, "-inf", now_ms - ALIVE_KEPT_MS)
            pipeline.set(approval_key(boot_id), encode_process(uptime_s), px=ALIVE_KEPT_MS)
            pipeline.time()
            try:
                *_written, time = await pipeline.execute()
            except ResponseError as error:
                if "WRONGTYPE" in str(error):  # the next call recreates it
                    await self._client.delete(APPROVALS)
                raise
        self._set_offset(time, began)

    async def write_gone(self, boot_id: str) -> None:
        """Record that this replica shuts down."""
        async with reaching_redis():
            await self._client.zrem(APPROVALS, boot_id)

    async def _learn_time(self) -> None:
        began = self._clock.monotonic()
        async with reaching_redis():
            time = await self._client.time()
        self._set_offset(time, began)

    def _set_offset(self, time: tuple[int, int], began: float) -> None:
        seconds, microseconds = time
        middle = (began + self._clock.monotonic()) / 2
        self._offset_ms = seconds * 1000 + microseconds / 1000 - middle * 1000
