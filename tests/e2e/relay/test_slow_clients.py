"""Clients that keep requests open do not block the upstream's pages for others."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

import aiohttp

from services.gateway.relay.http.body import HEAD_BYTES, PAUSE_SECONDS
from services.gateway.relay.http.connections import CONNECTIONS_LIMIT
from services.gateway.relay.rules.connection_shares import HELD_SECONDS
from tests.e2e.metrics import metric
from tests.support.http.plain_http import ask
from tools.support.waiting import POLL_SECONDS, WAIT_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.stubs.upstream import StubUpstream
    from tools.support.processes.service import ServiceProcess

LONG_BYTES: Final = 4 * HEAD_BYTES
PER_ADDRESS: Final = CONNECTIONS_LIMIT // 2
"""Requests that one address may have in progress; two addresses take all connections."""
ANSWER_SECONDS: Final = HELD_SECONDS + 2
IN_PROGRESS: Final = 'latchkey_gateway_plain_requests{state="in_progress"}'
NEWCOMER: Final = {"X-Forwarded-For": "203.0.113.99"}


def request(method: str, target: str, address: str, length: int = 0) -> bytes:
    """Return the head of a request that a proxy passes on for a client's address."""
    return (
        f"{method} {target} HTTP/1.1\r\nHost: gateway\r\nX-Forwarded-For: {address}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


@asynccontextmanager
async def client(
    gateway: ServiceProcess, sent: bytes
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Send these bytes on a connection of its own, and keep it open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        writer.write(sent)
        await writer.drain()
        yield reader, writer
    finally:
        writer.transport.abort()


async def answer_seconds(gateway: ServiceProcess, target: str) -> float:
    """Return how many seconds a new client waits for a page."""
    began = time.monotonic()
    reply = await ask(gateway.port, target, headers=NEWCOMER)
    assert reply.status == 200
    return time.monotonic() - began


async def test_requests_without_their_bodies_use_no_connection_to_the_upstream(
    gateway: ServiceProcess, upstream: StubUpstream
) -> None:
    """No token is needed to send such requests, and two addresses would be enough."""
    async with AsyncExitStack() as clients:
        for address in ("203.0.113.1", "203.0.113.2"):
            for _ in range(PER_ADDRESS):
                head = request("POST", "/withheld", address, length=1000)
                await clients.enter_async_context(client(gateway, head))
        await in_progress(gateway, 2 * PER_ADDRESS)
        assert upstream.begun["/withheld"] == 0
        assert await answer_seconds(gateway, "/newcomer") < HELD_SECONDS


async def test_the_address_with_the_most_connections_gives_way(
    gateway: ServiceProcess, upstream: StubUpstream
) -> None:
    upstream.release.clear()
    dropped = 'latchkey_gateway_plain_dropped_total{reason="displaced"}'
    before = await metric(gateway, dropped)
    async with AsyncExitStack() as clients:

        async def slow(address: str) -> asyncio.StreamReader:
            head = request("GET", "/slow", address)
            reader, _ = await clients.enter_async_context(client(gateway, head))
            return reader

        few = await slow("203.0.113.3")
        await few.readuntil(b"first")
        for number in range(CONNECTIONS_LIMIT - 1):
            reader = await slow(f"203.0.113.{4 + number % 2}")
            await reader.readuntil(b"first")
        assert await answer_seconds(gateway, "/newcomer") < ANSWER_SECONDS
        assert await metric(gateway, dropped) == before + 1
        upstream.release.set()
        await few.readuntil(b"last")


async def test_a_request_whose_long_body_pauses_ends_before_the_stall_time(
    gateway: ServiceProcess, upstream: StubUpstream
) -> None:
    head = request("POST", "/stops", "203.0.113.6", length=LONG_BYTES)
    async with client(gateway, head + bytes(LONG_BYTES // 2)) as (reader, _):
        await until(lambda: upstream.begun["/stops"], "it uses a connection")
        began = time.monotonic()
        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
    assert PAUSE_SECONDS - 1 < time.monotonic() - began < 2 * PAUSE_SECONDS
    assert upstream.asked("/stops") == 0


async def test_a_long_body_that_is_sent_slowly_arrives(
    gateway: ServiceProcess, upstream: StubUpstream
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield bytes(LONG_BYTES // 4)
            await asyncio.sleep(0.2)

    async with (
        aiohttp.ClientSession(gateway.url) as session,
        session.post("/slowly", data=pieces()) as answer,
    ):
        assert answer.status == 200
    assert upstream.last("/slowly").body == bytes(LONG_BYTES)


async def in_progress(gateway: ServiceProcess, count: int) -> None:
    """Wait until this many requests are in progress, not counting the scrape."""
    deadline = time.monotonic() + WAIT_SECONDS
    while (now := await metric(gateway, IN_PROGRESS)) < count:
        assert time.monotonic() < deadline, f"{now} of {count}"
        await asyncio.sleep(POLL_SECONDS)
