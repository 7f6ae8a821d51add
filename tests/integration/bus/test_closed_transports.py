"""A transport closed without notice: what uvloop raises counts as a lost connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import uvloop
from redis.exceptions import ConnectionError as LostError

from shared.redis.access import make_client
from shared.redis.connection import Reads, make_connection, pack
from tests.support.callbacks import result_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from redis.asyncio import Redis

    from tools.support.processes.redis import RedisServer


def run(server: RedisServer, test: Callable[[Redis], Coroutine[Any, Any, None]]) -> None:
    """Run a test on uvloop, as the services do."""

    async def main() -> None:
        url = server.approval_url
        async with make_client(url, max_connections=1, timeout_seconds=2.0) as client:
            await client.set("latchkey:test", b"x")
            await test(client)

    uvloop.run(main())


def close_free_connections(client: Redis) -> None:
    """Close the pool's connections so that only the next use notices."""
    pool: Any = client.connection_pool
    for connection in pool._available_connections:
        connection._writer.transport.abort()
        connection.can_read = _nothing_to_read


async def _nothing_to_read() -> bool:
    return False


def test_a_command_on_a_closed_transport_is_a_lost_connection(redis_server: RedisServer) -> None:
    async def command(client: Redis) -> None:
        close_free_connections(client)
        with pytest.raises(LostError):
            await client.get("latchkey:test")
        assert await client.get("latchkey:test") == b"x"

    run(redis_server, command)


def test_a_pipeline_on_a_closed_transport_is_a_lost_connection(redis_server: RedisServer) -> None:
    async def pipelined(client: Redis) -> None:
        close_free_connections(client)
        pipeline = client.pipeline(transaction=False)
        pipeline.get("latchkey:test")
        with pytest.raises(LostError):
            await pipeline.execute()

    run(redis_server, pipelined)


def test_a_script_on_a_closed_transport_is_a_lost_connection(redis_server: RedisServer) -> None:
    async def scripted(client: Redis) -> None:
        script = client.register_script("return 1")
        assert await script() == 1
        close_free_connections(client)
        with pytest.raises(LostError):
            await script()
        assert await script() == 1

    run(redis_server, scripted)


def test_a_read_on_a_closed_transport_is_a_lost_connection(redis_server: RedisServer) -> None:
    async def read(client: Redis) -> None:
        reads = Reads(client, 2.0)
        assert await result_of(reads.read, "latchkey:test") == [b"x"]
        connection: Any = reads._connection
        connection._transport.abort()
        with pytest.raises(LostError):
            await result_of(reads.read, "latchkey:test")
        assert await result_of(reads.read, "latchkey:test") == [b"x"]
        await reads.close()

    run(redis_server, read)


def test_a_subscription_on_a_closed_transport_is_a_lost_connection(
    redis_server: RedisServer,
) -> None:
    async def subscribe(client: Redis) -> None:
        connection: Any = await make_connection(client.connection_pool, lambda _reply: None)
        connection._transport.abort()
        await asyncio.sleep(0)  # the transport is closed once the loop has turned
        with pytest.raises(LostError):
            connection.send(pack("SUBSCRIBE", "latchkey:events"))
        assert connection.error is not None
        await connection.close()

    run(redis_server, subscribe)
