"""What is incomplete or unread is limited over all sockets, and in time."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.integration.gateway.harness import GatewayHarness
from tests.support.websocket.raw_socket import Gone, frame_bytes
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MESSAGE_DEADLINE_SECONDS = 120.0
STEP = 0.25
REQUEST = b'{"type":"req","id":"1","method":"health"}'


@pytest.fixture
async def harness() -> AsyncIterator[GatewayHarness]:
    async with GatewayHarness(memory_limit_bytes=2_000_000) as harness:
        yield harness


async def test_the_one_that_holds_the_most_is_closed(harness: GatewayHarness) -> None:
    large, largest = await harness.admitted(), await harness.admitted()
    other, _ = await harness.admitted()
    async with large[0], largest[0], other:
        await large[0].send_bytes(frame_bytes(b"x" * 900_000, announce=1_000_000))
        await largest[0].send_bytes(frame_bytes(b"x" * 1_000_000, announce=1_048_576))
        await until(lambda: harness.memory.held_bytes >= 1_900_000, "both are held")
        await other.send_bytes(frame_bytes(b"x" * 200_000, announce=300_000))
        assert await largest[0].closed() == (1013, "memory limit")
        assert harness.memory.held_bytes == 1_100_000
        await other.send_bytes(b"x" * 100_000)
        assert (await other.receive_text())["error"]["code"] == "INVALID_REQUEST"
        assert not large[1].closing
    await until(lambda: harness.memory.held_bytes == 0, "nothing is left")


async def test_what_it_sends_after_that_is_not_held(harness: GatewayHarness) -> None:
    raws = [(await harness.admitted())[0] for _ in range(3)]
    for raw in raws:
        with contextlib.suppress(Gone):
            await raw.send_bytes(frame_bytes(b"x" * 900_000, announce=1_048_576))
    await until(lambda: harness.memory.shed_for_memory == 1, "one is closed")
    for raw in raws:
        with contextlib.suppress(Gone):
            await raw.send_bytes(b"x" * 100_000)
    await until(lambda: harness.memory.held_bytes == 2_000_000, "two are held")
    for raw in raws:
        raw.hang_up()
    await until(lambda: harness.memory.held_bytes == 0, "nothing is left")


async def test_a_message_has_a_deadline(harness: GatewayHarness) -> None:
    raw, connection = await harness.admitted()
    async with raw:
        await raw.send_bytes(frame_bytes(b"x", announce=100))
        await until(lambda: harness.memory.held_bytes == 1, "it is held")
        for _ in range(8):
            await harness.pass_time(MESSAGE_DEADLINE_SECONDS / 8 - STEP)
            assert not connection.closing, "its client is alive"
            await raw.send_bytes(b"x")
        await harness.pass_time(8 * STEP + STEP)
        assert await raw.closed() == (1013, "incomplete message")


async def test_messages_that_overlap_reads_have_none(harness: GatewayHarness) -> None:
    raw, connection = await harness.admitted()
    whole = frame_bytes(REQUEST)
    async with raw:
        await raw.send_bytes(whole[:10])
        for _ in range(20):
            await harness.pass_time(MESSAGE_DEADLINE_SECONDS / 8)
            await raw.send_bytes(whole[10:] + whole[:10])
            while (await raw.receive_text())["type"] == "event":
                pass
        assert not connection.closing
