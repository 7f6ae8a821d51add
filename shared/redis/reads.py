"""Reads keys over a single connection without a pool, with many reads in flight."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from shared.redis.connection import make_connection, pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from shared.redis.connection import Connection


class Reads:
    """MGET with the settings of a client (`make_client`), at a fraction of its cost.

    Raises the client's errors: RedisError, OSError or TimeoutError. Nothing is retried; the next
    read replaces a lost connection.
    """

    def __init__(self, client: Redis, timeout_seconds: float) -> None:
        """Create a reader without connecting."""
        self._pool = client.connection_pool
        self._timeout_seconds = timeout_seconds
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()

    async def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values of the keys, None for missing ones."""
        connection = self._connection
        if connection is None or connection.error is not None:
            connection = await self._connect()
        call = connection.call(pack("MGET", *keys), replies=1)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await call.ended
        except TimeoutError:
            # The connection hangs for all waiting reads; the next read tries a new one.
            await connection.close()
            raise
        values: list[bytes | None] | ResponseError = call.replies[0]
        if isinstance(values, ResponseError):
            raise values
        return values

    async def close(self) -> None:
        """Close the connection; reads in progress fail."""
        if self._connection is not None:
            await self._connection.close()

    async def _connect(self) -> Connection:
        async with self._connecting:
            if self._connection is None or self._connection.error is not None:
                await self.close()
                self._connection = await make_connection(self._pool)
            return self._connection
