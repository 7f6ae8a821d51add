"""Opening a client's connections before they are needed, so that none is opened under load."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

if TYPE_CHECKING:
    from redis.asyncio import Redis


async def open_connections(client: Redis, count: int) -> None:
    """Open so many; those that cannot be had now are opened when they are needed."""
    pool: Any = client.connection_pool
    opened: list[Any] = []
    try:
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            while len(opened) < count:
                opened.append(await pool.get_connection())
    finally:
        for connection in opened:
            await pool.release(connection)
