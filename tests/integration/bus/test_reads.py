"""Reads of a batch of requests over one connection, which is reopened when it is lost."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import RedisError, ResponseError

from shared.redis.access import make_client
from shared.redis.connection import CONNECT_SECONDS, Reads
from tests.support.callbacks import result_of
from tools.support.waiting import WAIT_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tools.support.processes.redis import RedisServer


@asynccontextmanager
async def reading(redis_server: RedisServer, *, seconds: float = 5.0) -> AsyncIterator[Reads]:
    """Return Reads on a Redis in which `latchkey:a` is "1"."""
    url = redis_server.approval_url
    async with make_client(url, max_connections=2, timeout_seconds=5.0) as client:
        await client.set("latchkey:a", b"1")
        reads = Reads(client, seconds)
        try:
            yield reads
        finally:
            await reads.close()


async def test_values_come_in_the_order_of_their_keys(redis_server: RedisServer) -> None:
    async with reading(redis_server) as reads:
        keys = ["latchkey:none", "latchkey:a", "latchkey:none", "latchkey:a"]
        assert await result_of(reads.read, *keys) == [None, b"1", None, b"1"]


async def test_many_at_once_share_a_connection_and_each_gets_its_own(
    redis_server: RedisServer,
) -> None:
    async with reading(redis_server) as reads:
        asked = [["latchkey:a"] * (1 + n) for n in range(100)]
        answers = await asyncio.gather(*(result_of(reads.read, *keys) for keys in asked))
        assert [len(values) for values in answers] == [len(keys) for keys in asked]


async def test_a_cancelled_caller_leaves_others_their_answers(redis_server: RedisServer) -> None:
    async with reading(redis_server) as reads:
        await result_of(reads.read, "latchkey:a")
        impatient = asyncio.ensure_future(result_of(reads.read, "latchkey:none"))
        patient = asyncio.ensure_future(result_of(reads.read, "latchkey:a"))
        await asyncio.sleep(0)
        impatient.cancel()
        assert await patient == [b"1"]
        assert impatient.cancelled()


async def test_what_redis_refuses_is_raised_and_the_next_is_read(redis_server: RedisServer) -> None:
    async with reading(redis_server) as reads:
        with pytest.raises(ResponseError, match="permissions"):
            await result_of(reads.read, "not-ours")
        assert await result_of(reads.read, "latchkey:a") == [b"1"]


async def test_a_connection_that_ended_while_idle_is_replaced(redis_server: RedisServer) -> None:
    async with reading(redis_server) as reads:
        await result_of(reads.read, "latchkey:a")
        connection = reads._connection
        assert connection is not None
        redis_server.restart()
        await asyncio.wait_for(asyncio.shield(connection.lost), WAIT_SECONDS)
        assert await result_of(reads.read, "latchkey:a") == [b"1"]


async def test_a_redis_that_is_away_fails_all_and_is_found_again(
    redis_server: RedisServer,
) -> None:
    async with reading(redis_server) as reads:
        await result_of(reads.read, "latchkey:a")
        redis_server.stop()
        found = await asyncio.gather(
            *(result_of(reads.read, "latchkey:a") for _ in range(3)), return_exceptions=True
        )
        assert all(isinstance(item, RedisError | OSError) for item in found)
        redis_server.start()
        assert await result_of(reads.read, "latchkey:a") == [b"1"]


async def test_a_redis_that_hangs_is_given_up(redis_server: RedisServer) -> None:
    async with reading(redis_server, seconds=0.3) as reads:
        await result_of(reads.read, "latchkey:a")
        redis_server.pause()
        started = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            await result_of(reads.read, "latchkey:a")
        assert asyncio.get_running_loop().time() - started < 1.5
        redis_server.resume()
        assert await result_of(reads.read, "latchkey:a") == [b"1"]


async def test_a_silent_redis_fails_all_waiting_calls_at_once(
    redis_server: RedisServer,
) -> None:
    async with reading(redis_server) as reads:
        redis_server.pause()
        try:
            async with asyncio.timeout(1.5 * CONNECT_SECONDS):
                found = await asyncio.gather(
                    *(result_of(reads.read, "latchkey:a") for _ in range(20)),
                    return_exceptions=True,
                )
        finally:
            redis_server.resume()
        assert all(isinstance(item, RedisError | OSError) for item in found)
        assert await result_of(reads.read, "latchkey:a") == [b"1"]


async def test_a_read_takes_no_task_and_calls_back_later(redis_server: RedisServer) -> None:
    async with reading(redis_server) as reads:
        await result_of(reads.read, "latchkey:a")
        tasks = asyncio.all_tasks()
        found: list[list[bytes | None] | Exception] = []
        for _ in range(20):
            reads.read(["latchkey:a"], found.append)
        assert found == []
        assert asyncio.all_tasks() == tasks
        await until(lambda: len(found) == 20, "all are read")
        assert found == [[b"1"]] * 20


async def test_an_error_in_a_callback_is_reported_and_others_are_read(
    redis_server: RedisServer,
) -> None:
    async with reading(redis_server) as reads:
        await result_of(reads.read, "latchkey:a")
        reported: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, context: reported.append(context["exception"])
        )
        error = RuntimeError("a bug")

        def fail(_found: list[bytes | None] | Exception) -> None:
            raise error

        reads.read(["latchkey:a"], fail)
        assert await result_of(reads.read, "latchkey:a") == [b"1"]
        assert reported == [error]
        assert reads._connection is not None
        assert reads._connection.error is None


async def test_reads_that_wait_for_a_connection_fail_with_it(redis_server: RedisServer) -> None:
    async with reading(redis_server) as reads:
        found: list[list[bytes | None] | Exception] = []
        reads.read(["latchkey:a"], found.append)
        reads.read(["latchkey:a"], found.append)
        assert reads._connecting is not None
        reads._connecting.cancel()
        with pytest.raises(RedisError, match="given up"):
            await result_of(reads.read, "latchkey:a")
        assert [type(one) for one in found] == [LostError, LostError]
        assert await result_of(reads.read, "latchkey:a") == [b"1"]


async def test_closing_closes_a_connection_that_is_being_opened(redis_server: RedisServer) -> None:
    async with reading(redis_server) as reads:
        waiting = asyncio.ensure_future(result_of(reads.read, "latchkey:a"))
        await asyncio.sleep(0)
        await reads.close()
        with pytest.raises(LostError):
            await waiting
        assert reads._connection is None, "none was opened afterwards"
        assert await result_of(reads.read, "latchkey:a") == [b"1"], "the next read connects"
