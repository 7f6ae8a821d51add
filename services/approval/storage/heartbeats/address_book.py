"""Addresses from which devices were admitted or approved, for gateways with an upstream.

Only these get a socket to the upstream before they are admitted. Losing an address costs its
clients one retry, so nothing waits for the write.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

import structlog

from services.approval import log_events
from services.approval.domain.errors import StoreUnavailable
from services.approval.storage.keys import ADDRESSES
from services.approval.storage.redis import reaching_redis
from shared.rpc.messages import Addresses

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from shared.clock import Clock

KEPT_MS: Final = 24 * 3600 * 1000
"""How long an address is known after it was last written."""
REFRESHED_MS: Final = 3600 * 1000
"""How often a replica writes an address again that is still in use."""
ADDRESSES_LIMIT: Final = 100_000
"""How many addresses are kept; the oldest go first."""
ADDRESSES_PER_MESSAGE: Final = 1_000
"""How many addresses one heartbeat's answer, or one event, holds."""
RELAYING_SECONDS: Final = 60.0
"""How long after the heartbeat of a gateway that relays addresses are still collected."""


class AddressBook:
    """Collects addresses while a gateway has an upstream, and announces new ones at once."""

    def __init__(self, client: Redis, clock: Clock) -> None:
        self._client: Any = client
        self._clock = clock
        self._relayed_at = float("-inf")
        self._written: OrderedDict[str, float] = OrderedDict()
        """When this replica wrote each address, in ms of monotonic time."""
        self._new: list[str] = []
        self._writing: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("approval")
        self.tell: Callable[[Addresses], None] = lambda _event: None
        """Sends an event to all gateways."""

    def note_relaying(self) -> None:
        """Record that a gateway has an upstream."""
        self._relayed_at = self._clock.monotonic()

    def learn(self, limit_key: str) -> None:
        """Record an address from which a device was admitted or approved."""
        now = self._clock.monotonic()
        if now - self._relayed_at > RELAYING_SECONDS:
            return
        written_at = self._written.get(limit_key)
        if written_at is not None and now * 1000 - written_at < REFRESHED_MS:
            return
        self._written[limit_key] = now * 1000
        self._written.move_to_end(limit_key)
        if len(self._written) > ADDRESSES_LIMIT:
            self._written.popitem(last=False)
        self._new.append(limit_key)
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def after(self, after_ms: int, now_ms: int) -> tuple[list[str], int]:
        """Return addresses written after a time of the store's clock, and the time reached."""
        async with reaching_redis():
            found = await self._client.zrangebyscore(
                ADDRESSES,
                f"({after_ms}",
                "+inf",
                start=0,
                num=ADDRESSES_PER_MESSAGE,
                withscores=True,
            )
        # What was written in this very moment may have been written after the read.
        reached = max((int(score) - 1 for _key, score in found), default=now_ms - 1)
        return [key.decode() for key, _score in found], max(after_ms, reached)

    async def _write(self) -> None:
        """Write and announce addresses until none is left."""
        try:
            while self._new:
                part, self._new = (
                    self._new[:ADDRESSES_PER_MESSAGE],
                    self._new[ADDRESSES_PER_MESSAGE:],
                )
                self.tell(Addresses(part))
                await self._put(part)
        finally:
            self._writing = None

    async def _put(self, part: list[str]) -> None:
        try:
            async with reaching_redis():
                seconds, microseconds = await self._client.time()
                now_ms = seconds * 1000 + microseconds // 1000
                pipeline = self._client.pipeline(transaction=False)
                pipeline.zadd(ADDRESSES, dict.fromkeys(part, now_ms))
                pipeline.zremrangebyscore(ADDRESSES, "-inf", now_ms - KEPT_MS)
                pipeline.zrange(ADDRESSES, 0, -ADDRESSES_LIMIT - 1)
                *_done, surplus = await pipeline.execute()
                if surplus:
                    await self._client.zrem(ADDRESSES, *surplus)
        except StoreUnavailable as missing:
            self._log.warning(log_events.STORE_UNAVAILABLE.name, error=str(missing))
