"""Reads keys over a single connection without a pool, with many reads in flight."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shared.redis.connection import make_connection, pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from shared.redis.connection import Connection

    Values = list[bytes | None]


class Reads:
    """MGET with the settings of a client (`make_client`), at a fraction of its cost.

    A read on an open connection is one write and one callback, without a task or a timer of its
    own. Raises the client's errors: RedisError, OSError or TimeoutError. Nothing is retried; the
    next read replaces a lost connection.
    """

    def __init__(self, client: Redis, timeout_seconds: float) -> None:
        """Create a reader without connecting."""
        self._pool = client.connection_pool
        self._timeout_seconds = timeout_seconds
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._watch: asyncio.TimerHandle | None = None

    def mget(self, keys: Sequence[str]) -> asyncio.Future[Values]:
        """Return the values of the keys, None for missing ones; the future has all errors."""
        connection = self._connection
        if connection is None or connection.error is not None:
            return asyncio.ensure_future(self._connect_and_get(keys))
        try:
            return self._get(connection, keys)
        except Exception as error:  # noqa: BLE001  the transport was closed unnoticed
            failed: asyncio.Future[Values] = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            return failed

    async def close(self) -> None:
        """Close the connection; reads in progress fail."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._connection is not None:
            await self._connection.close()

    def _get(self, connection: Connection, keys: Sequence[str]) -> asyncio.Future[Values]:
        if self._watch is None:
            self._watch_until(asyncio.get_running_loop().time() + self._timeout_seconds)
        return connection.get(pack("MGET", *keys))

    async def _connect_and_get(self, keys: Sequence[str]) -> Values:
        """Wait for the connection that is being opened; if that fails, all who wait fail."""
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._connected)
        connection = await asyncio.shield(self._connecting)
        return await self._get(connection, keys)

    async def _connect(self) -> Connection:
        await self.close()
        self._connection = await make_connection(self._pool)
        return self._connection

    def _connected(self, connecting: asyncio.Task[Connection]) -> None:
        self._connecting = None
        if not connecting.cancelled():
            connecting.exception()  # those who wait have it

    def _watch_until(self, when: float) -> None:
        self._watch = asyncio.get_running_loop().call_at(when, self._look)

    def _look(self) -> None:
        """Give up a connection that hangs, for all waiting reads; the next read tries a new one."""
        self._watch = None
        connection = self._connection
        since = connection.waiting_since() if connection is not None else None
        if connection is None or since is None:
            return
        due = since + self._timeout_seconds
        if asyncio.get_running_loop().time() >= due:
            connection.drop(TimeoutError("Redis did not answer in time"))
        else:
            self._watch_until(due)
