"""A task that is cancelled during a command to Redis ends, whatever it was doing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from shared.redis.access import make_client

if TYPE_CHECKING:
    from redis.asyncio import Redis

STEPS = 12
"""More turns of the event loop than a command takes."""


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every command with OK."""
    while data := await reader.read(4_096):
        writer.write(b"+OK\r\n" * data.count(b"*"))
    writer.close()


async def endless(client: Redis) -> None:
    """Send one command, then wait."""
    await client.set("key", "value")
    await asyncio.Event().wait()


@pytest.mark.parametrize("step", range(STEPS))
async def test_a_cancelled_command_ends_its_task(step: int) -> None:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = make_client(f"redis://127.0.0.1:{port}/0", max_connections=2, timeout_seconds=2.0)
    await client.set("key", "value")  # connected
    task = asyncio.create_task(endless(client))
    for _ in range(step):
        await asyncio.sleep(0)
    task.cancel()
    _done, pending = await asyncio.wait([task], timeout=1)
    task.cancel()
    await client.aclose()
    server.close()
    assert not pending, "the cancellation was lost"
