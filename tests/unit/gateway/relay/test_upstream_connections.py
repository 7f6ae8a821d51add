"""Requests use a connection, wait for one, or lose theirs."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from services.gateway.relay.http.connections import (
    Displaced,
    NoConnectionFree,
    UpstreamConnections,
)
from services.gateway.relay.rules import connection_shares
from tests.support.clock import turns

SOON: Final = 0.01


async def hold(connections: UpstreamConnections, key: str, until: asyncio.Event) -> None:
    async with connections.use(key):
        await until.wait()


async def test_no_connection_becomes_free_in_time() -> None:
    connections = UpstreamConnections(limit=1, wait_seconds=SOON)
    async with connections.use("a"):
        with pytest.raises(NoConnectionFree):
            async with connections.use("a"):
                pass
    async with connections.use("a"):
        pass


async def test_a_connection_in_use_has_no_deadline() -> None:
    connections = UpstreamConnections(limit=1, wait_seconds=SOON)
    async with connections.use("a"):
        await asyncio.sleep(2 * SOON)


async def test_a_waiting_request_is_next() -> None:
    connections = UpstreamConnections(limit=1)
    ends = [asyncio.Event(), asyncio.Event()]
    tasks = [asyncio.create_task(hold(connections, "a", end)) for end in ends]
    await turns(5)
    ends[0].set()
    ends[1].set()
    await asyncio.gather(*tasks)


async def test_the_address_with_the_most_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_shares, "HELD_SECONDS", SOON)
    connections = UpstreamConnections(limit=2)
    never = asyncio.Event()
    tasks = [asyncio.create_task(hold(connections, "a", never)) for _ in range(2)]
    await turns(5)
    async with connections.use("b"):
        with pytest.raises(Displaced):
            await tasks[0]
        assert not tasks[1].done()
    tasks[1].cancel()


async def test_a_timeout_of_the_request_is_not_reported_as_no_connection() -> None:
    connections = UpstreamConnections(limit=1)
    with pytest.raises(TimeoutError):
        async with connections.use("a"), asyncio.timeout(SOON):
            await asyncio.Event().wait()


async def test_a_request_that_is_cancelled_while_it_waits_is_forgotten() -> None:
    connections = UpstreamConnections(limit=1)
    async with connections.use("a"):
        waiting = asyncio.create_task(hold(connections, "b", asyncio.Event()))
        await turns(5)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    async with connections.use("c"):
        pass
