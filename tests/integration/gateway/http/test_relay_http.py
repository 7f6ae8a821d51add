"""Relayed requests from slow clients, with two connections to the upstream."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import Mock

import pytest
from aiohttp import web

from services.gateway.handshake.outcome import AuthConfig
from services.gateway.metrics import Metrics
from services.gateway.relay.http.body import HEAD_BYTES
from services.gateway.relay.http.connections import UpstreamConnections
from services.gateway.relay.http.handler import RelayHttp
from services.gateway.relay.relay import Relay
from services.gateway.relay.rules import connection_shares
from services.gateway.relay.upstream.examiner import Examiner
from services.gateway.relay.upstream.pairing import UpstreamPairing
from services.gateway.relay.upstream.status import Status
from services.gateway.relay.upstream.upstream import Upstream, UpstreamAddress
from shared.clock import SystemClock
from shared.secret_digests import SecretDigests
from shared.settings.environment import Secrets
from tests.support.http.plain_http import ask
from tests.support.loop_budget import loop_budget
from tests.support.stubs.upstream import stub_upstream
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.support.stubs.upstream import StubUpstream

LIMIT: Final = 2
HELD_SECONDS: Final = 0.1
PAUSE_SECONDS: Final = 0.1
LONG_BYTES: Final = 4 * HEAD_BYTES
NEWCOMER: Final = {"X-Forwarded-For": "203.0.113.99"}


@pytest.fixture(scope="module")
def upstream() -> Iterator[StubUpstream]:
    """One upstream."""
    with stub_upstream() as stub:
        yield stub


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def port(
    upstream: StubUpstream, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[int]:
    """Serve relayed requests; yields the port."""
    monkeypatch.setattr(connection_shares, "HELD_SECONDS", HELD_SECONDS)
    http = relayed(upstream.url, metrics)
    app = web.Application()
    app.cleanup_ctx.extend(http.contexts)
    app.router.add_route("*", "/{path:.*}", http.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


def relayed(url: str, metrics: Metrics) -> RelayHttp:
    clock = SystemClock()
    upstream = Upstream(UpstreamAddress.parse(url), ["s" * 32], clock, loop_budget())
    status = Status(upstream, Examiner(upstream, "1", []), clock)
    relay = Relay(
        upstream, UpstreamPairing(upstream, clock, "1"), status, clock, trusts_local=False
    )
    secrets = Secrets(["t" * 32])
    return RelayHttp(
        relay,
        Mock(),
        AuthConfig(secrets, frozenset(), SecretDigests(secrets)),
        metrics=metrics,
        trusted_proxies=(ip_network("127.0.0.0/8"),),
        pause_seconds=PAUSE_SECONDS,
        connections=UpstreamConnections(limit=LIMIT),
    )


def dropped(metrics: Metrics, reason: str) -> Any:
    name = "latchkey_gateway_plain_dropped_total"
    return metrics.registry.get_sample_value(name, {"reason": reason})


def head(method: str, target: str, address: str = "203.0.113.1", length: int = 0) -> bytes:
    return (
        f"{method} {target} HTTP/1.1\r\nHost: gateway\r\nX-Forwarded-For: {address}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


@asynccontextmanager
async def client(port: int, sent: bytes) -> AsyncIterator[asyncio.StreamReader]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        await writer.drain()
        yield reader
    finally:
        writer.transport.abort()


async def test_requests_without_their_bodies_use_no_connection(
    port: int, upstream: StubUpstream
) -> None:
    async with AsyncExitStack() as clients:
        for _ in range(2 * LIMIT):
            await clients.enter_async_context(client(port, head("POST", "/withheld", length=1000)))
        assert (await ask(port, "/page", headers=NEWCOMER)).status == 200
        assert upstream.begun["/withheld"] == 0


async def test_an_address_with_more_connections_gives_way(
    port: int, upstream: StubUpstream, metrics: Metrics
) -> None:
    upstream.release.clear()
    async with AsyncExitStack() as clients:
        readers = []
        for _ in range(LIMIT):
            reader = await clients.enter_async_context(client(port, head("GET", "/slow")))
            await reader.readuntil(b"first")
            readers.append(reader)
        assert (await ask(port, "/page", headers=NEWCOMER)).status == 200
        assert dropped(metrics, "displaced") == 1
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await readers[0].readuntil(b"last")
        upstream.release.set()
        await readers[1].readuntil(b"last")


async def test_a_request_whose_long_body_pauses_is_aborted(
    port: int, upstream: StubUpstream, metrics: Metrics
) -> None:
    sent = head("POST", "/stops", length=LONG_BYTES) + bytes(LONG_BYTES // 2)
    async with client(port, sent) as reader:
        await until(lambda: upstream.begun["/stops"], "it uses a connection")
        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
    assert dropped(metrics, "body") == 1
    assert upstream.asked("/stops") == 0


async def test_a_client_that_leaves_before_its_body_has_arrived_is_no_error(
    port: int, upstream: StubUpstream
) -> None:
    async with client(port, head("POST", "/left", length=1000)):
        pass
    assert (await ask(port, "/page", headers=NEWCOMER)).status == 200
    assert upstream.begun["/left"] == 0


@pytest.mark.parametrize("body", [b"5\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\n"], ids=["some", "none"])
async def test_a_short_body_in_chunks_has_a_length_at_the_upstream(
    port: int, upstream: StubUpstream, body: bytes
) -> None:
    sent = b"POST /chunks HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with client(port, sent + body) as reader:
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    received = upstream.last("/chunks")
    assert received.body in body
    assert received.all("Content-Length") == [str(len(received.body))]
    assert received.all("Transfer-Encoding") == []
