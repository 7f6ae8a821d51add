"""Connections that a network forgets silently while they are idle."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shared.redis.access import RedisAccess
from shared.redis.connection import Reads
from tests.support.callbacks import result_of
from tools.support.proxies.faults import FaultProxy

if TYPE_CHECKING:
    from tools.support.processes.redis import RedisServer

KEY = "latchkey:a"
IDLE_SECONDS = 0.2
TIMEOUT_SECONDS = 5.0
SOON_SECONDS = 1.0
"""Well below the timeout."""


async def test_an_idle_connection_is_replaced_before_it_is_used(redis_server: RedisServer) -> None:
    async with FaultProxy(redis_server.port) as way:
        url = redis_server.approval_url.replace(str(redis_server.port), str(way.port))
        access = RedisAccess(url, idle_seconds=IDLE_SECONDS)
        client = access.client(max_connections=1, timeout_seconds=TIMEOUT_SECONDS)
        reads = Reads(client, TIMEOUT_SECONDS, idle_seconds=IDLE_SECONDS)
        await client.set(KEY, b"1")
        assert await result_of(reads.read, KEY) == [b"1"]
        before = way.accepted
        await client.set(KEY, b"2")
        assert await result_of(reads.read, KEY) == [b"2"]
        assert way.accepted == before, "connections in use are kept"
        way.swallow()
        await asyncio.sleep(2 * IDLE_SECONDS)
        async with asyncio.timeout(SOON_SECONDS):
            await client.set(KEY, b"3")
            assert await result_of(reads.read, KEY) == [b"3"]
        assert way.accepted == before + 2
        await reads.close()
        await client.aclose()
