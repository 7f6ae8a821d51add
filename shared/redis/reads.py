"""Reading keys without a pool: one connection, many reads at a time, each answered in its turn."""

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

    Raises what the client would: RedisError, OSError or TimeoutError. Nothing is tried twice; a
    connection that was lost is made anew by the next read.
    """

    def __init__(self, client: Redis, timeout_seconds: float) -> None:
        """Connect to nothing yet."""
        self._pool = client.connection_pool
        self._timeout_seconds = timeout_seconds
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()

    async def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values of these keys, None for those that are not there."""
        connection = self._connection
        if connection is None or connection.error is not None:
            connection = await self._connected()
        call = connection.call(pack("MGET", *keys), replies=1)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await call.ended
        except TimeoutError:
            # It hangs, for all that wait; the next read finds out whether a new one does as well.
            await connection.close()
            raise
        values: list[bytes | None] | ResponseError = call.replies[0]
        if isinstance(values, ResponseError):
            raise values
        return values

    async def close(self) -> None:
        """Close the connection; reads under way fail."""
        if self._connection is not None:
            await self._connection.close()

    async def _connected(self) -> Connection:
        async with self._connecting:
            if self._connection is None or self._connection.error is not None:
                await self.close()
                self._connection = await make_connection(self._pool)
            return self._connection
