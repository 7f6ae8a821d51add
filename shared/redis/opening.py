"""Opens a client's connections in advance, so that none has to be opened under load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.redis.lost import is_lost

if TYPE_CHECKING:
    from redis.asyncio import Redis


async def open_connections(client: Redis, count: int) -> None:
    """Open `count` connections; those that fail are opened when they are needed."""
    pool: Any = client.connection_pool
    opened: list[Any] = []
    try:
        while len(opened) < count:
            opened.append(await pool.get_connection())
    except Exception as error:
        if not is_lost(error):
            raise
    finally:
        for connection in opened:
            await pool.release(connection)
