"""make_client: bounded, patient while connecting, impatient with Redis, and it never retries."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import NoPermissionError, RedisError
from redis.exceptions import TimeoutError as SlowError

from shared.redis.access import make_client
from tests.integration.bus.members import until_holds

if TYPE_CHECKING:
    from tools.support.processes.redis import RedisServer


async def test_it_reads_and_writes_what_approval_may(redis_server: RedisServer) -> None:
    client = make_client(redis_server.approval_url, max_connections=2, timeout_seconds=2.0)
    async with client:
        assert await client.set("latchkey:test", b"\xff") is True
        assert await client.get("latchkey:test") == b"\xff"
        with pytest.raises(NoPermissionError):
            await client.set("not-ours", b"")


async def test_a_gateway_may_touch_no_key(redis_server: RedisServer) -> None:
    client = make_client(redis_server.gateway_url, max_connections=1, timeout_seconds=2.0)
    async with client:
        with pytest.raises(NoPermissionError):
            await client.get("latchkey:test")


async def test_more_callers_than_connections_wait_for_their_turn(redis_server: RedisServer) -> None:
    client = make_client(redis_server.approval_url, max_connections=2, timeout_seconds=5.0)
    async with client:
        results = await asyncio.gather(*(client.incr("latchkey:n") for _ in range(100)))
        assert sorted(results) == list(range(1, 101))
        assert len(client.connection_pool._available_connections) <= 2


async def test_a_redis_that_hangs_is_given_up(redis_server: RedisServer) -> None:
    client = make_client(redis_server.approval_url, max_connections=2, timeout_seconds=0.3)
    async with client:
        await client.set("latchkey:test", b"")
        redis_server.pause()
        started = asyncio.get_running_loop().time()
        with pytest.raises(SlowError):
            await client.get("latchkey:test")
        assert asyncio.get_running_loop().time() - started < 1.5
        redis_server.resume()
        assert await client.get("latchkey:test") == b""


async def test_a_connection_that_ended_while_idle_is_replaced(redis_server: RedisServer) -> None:
    client = make_client(redis_server.approval_url, max_connections=1, timeout_seconds=2.0)
    async with client:
        await client.set("latchkey:test", b"x")
        redis_server.restart()
        (connection,) = client.connection_pool._available_connections
        await until_holds(connection.can_read)
        assert await client.get("latchkey:test") == b"x"


async def test_a_write_that_was_not_confirmed_is_not_sent_twice() -> None:
    received: list[bytes] = []

    async def confirm_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            received.append(data)
            if b"INCR" in data:
                break
            writer.write(b"+OK\r\n" * data.count(b"*"))
        writer.close()

    server = await asyncio.start_server(confirm_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"redis://127.0.0.1:{port}"
    client = make_client(url, max_connections=2, timeout_seconds=2.0)
    async with client:
        with pytest.raises(LostError):
            await client.incr("latchkey:n")
        pipeline = client.pipeline(transaction=False)
        pipeline.incr("latchkey:n")
        with pytest.raises(RedisError):
            await pipeline.execute()
    server.close()
    await server.wait_closed()
    assert b"".join(received).count(b"INCR") == 2


async def test_what_the_address_says_of_connections_does_not_undo_it(
    redis_server: RedisServer,
) -> None:
    asked = "?socket_timeout=600&retry_on_timeout=yes&max_connections=999&decode_responses=yes"
    url = redis_server.approval_url + asked
    client = make_client(url, max_connections=3, timeout_seconds=2.0)
    async with client:
        await client.set("latchkey:test", b"x")
        assert await client.get("latchkey:test") == b"x"
        settings = client.connection_pool.connection_kwargs
        assert (client.connection_pool.max_connections, settings["socket_timeout"]) == (3, 2.0)
