"""Plain HTTP and silent sockets take no capacity from devices, health checks and the bus."""

from __future__ import annotations

import ipaddress
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import aiohttp
import pytest

from services.gateway.connections.places import CLOSING_ROOM
from services.gateway.http.limits import HTTP_ROOM, HTTP_ROOM_PER_ADDRESS
from shared.device.handshake import Credentials
from shared.device.identity import DeviceKey
from shared.device.profile import CLI
from shared.server.accept import BulkAcceptor
from shared.server.socket_limiter import SocketLimiter
from shared.server.sockets import open_sockets
from tests.integration.gateway.harness import TOKEN, GatewayHarness
from tests.integration.gateway.process import BUS_SECRET, GATEWAY_TOKEN, gateway_process
from tests.support.clock import FakeClock
from tests.support.websocket.raw_socket import RawSocket, upgrade_bytes
from tools.support.peers import FakeApproval
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from shared.server.http_protocol import TrackedRequestHandler
    from tools.support.processes.redis import RedisServer

LIVEZ = b"GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n"
GOOD = Credentials(token=TOKEN)
PREAUTH_LIMIT = 4
OF_ONE_ADDRESS = PREAUTH_LIMIT + HTTP_ROOM_PER_ADDRESS
DESCRIPTORS = 128


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
async def harness() -> AsyncIterator[GatewayHarness]:
    async with GatewayHarness(preauth_limit=PREAUTH_LIMIT, connection_limit=3) as harness:
        yield harness


async def idle(port: int, stack: ExitStack, source: str | None = None) -> RawSocket:
    """Return a socket that requested a page and keeps its connection open."""
    raw = await RawSocket.tcp(port, source=source)
    stack.callback(raw.hang_up)
    await raw.send_bytes(LIVEZ)
    await raw.upgraded()
    assert raw.status == 200
    return raw


def turned_away(harness: GatewayHarness, limit: str) -> float:
    labels = {"limit": limit}
    return (
        harness.metrics.registry.get_sample_value("latchkey_gateway_turned_away_total", labels)
        or 0.0
    )


class TestPlainHttp:
    async def test_a_flood_from_one_address_displaces_its_own(
        self, harness: GatewayHarness, stack: ExitStack
    ) -> None:
        elsewhere = await idle(harness.port, stack, "127.0.0.2")
        crowd = [await idle(harness.port, stack) for _ in range(3 * OF_ONE_ADDRESS)]
        assert harness.limiter.here == OF_ONE_ADDRESS + 1
        assert turned_away(harness, "idle") == 2 * OF_ONE_ADDRESS
        raw = await harness.raw()
        assert (await raw.connect(None, CLI, GOOD))["ok"]
        crowd[0]._buffer.clear()
        assert await crowd[0].read_to_end() == b""
        await elsewhere.send_bytes(LIVEZ)
        elsewhere._buffer.clear()
        await elsewhere.upgraded()
        assert elsewhere.status == 200

    async def test_all_sockets_together_are_limited(
        self, harness: GatewayHarness, stack: ExitStack
    ) -> None:
        per_address = OF_ONE_ADDRESS // 2
        limit = 3 + CLOSING_ROOM + HTTP_ROOM
        for number in range(limit + 10):
            await idle(harness.port, stack, f"127.0.0.{2 + number // per_address}")
        assert harness.limiter.here == limit
        assert turned_away(harness, "idle") == 10
        raw = await harness.raw(source="127.0.0.99")
        assert (await raw.connect(None, CLI, GOOD))["ok"]
        assert harness.limiter.here + len(harness.connections) == limit

    async def test_health_is_served_where_websockets_are_full(
        self, harness: GatewayHarness, stack: ExitStack
    ) -> None:
        for _ in range(3):
            assert (await (await harness.raw()).connect(DeviceKey.generate(), CLI, GOOD))["ok"]
        assert (await harness.raw()).status == 503
        await idle(harness.port, stack)

    async def test_health_is_served_where_an_address_has_enough(self, stack: ExitStack) -> None:
        async with GatewayHarness(preauth_limit=PREAUTH_LIMIT) as harness:
            for _ in range(PREAUTH_LIMIT):
                assert (await harness.raw()).status == 101
            assert (await harness.raw()).status == 503
            await idle(harness.port, stack)

    async def test_a_trusted_proxy_is_not_limited_as_one_address(self, stack: ExitStack) -> None:
        trusted = (ipaddress.ip_network("127.0.0.1"),)
        async with GatewayHarness(preauth_limit=PREAUTH_LIMIT, trusted_proxies=trusted) as harness:
            for _ in range(2 * OF_ONE_ADDRESS):
                await idle(harness.port, stack)
            assert harness.limiter.here == 2 * OF_ONE_ADDRESS
            for _ in range(PREAUTH_LIMIT):
                assert (await harness.raw(headers=[("X-Real-IP", "192.0.2.1")])).status == 101
            assert (await harness.raw(headers=[("X-Real-IP", "192.0.2.1")])).status == 503
            assert (await harness.raw(headers=[("X-Real-IP", "192.0.2.2")])).status == 101

    async def test_a_socket_upgraded_later_counts_once(
        self, harness: GatewayHarness, stack: ExitStack
    ) -> None:
        raw = await idle(harness.port, stack)
        raw._buffer.clear()
        await raw.send_bytes(upgrade_bytes(harness.port))
        await raw.upgraded()
        assert raw.status == 101
        assert (harness.limiter.here, len(harness.connections)) == (0, 1)
        raw.hang_up()
        await harness.empty()
        assert harness.limiter.here == 0


class TestSilent:
    async def test_the_longest_silent_connection_gets_503(
        self, harness: GatewayHarness, stack: ExitStack
    ) -> None:
        crowd = []
        for _ in range(OF_ONE_ADDRESS + 1):
            crowd.append(await RawSocket.tcp(harness.port))
            stack.callback(crowd[-1].hang_up)
        await until(lambda: turned_away(harness, "address") == 1, "one is rejected")
        await crowd[0].upgraded()
        assert (crowd[0].status, crowd[0].body) == (503, b"Too many unauthenticated sockets")
        assert harness.limiter.here == OF_ONE_ADDRESS

    async def test_a_socket_rejected_at_accept_gets_503_and_is_never_connected(
        self, stack: ExitStack
    ) -> None:
        listeners = open_sockets(("127.0.0.1",), 0)
        limiter = SocketLimiter(
            FakeClock(), limit=0, limit_per_address=1, trusted_proxies=(), count=lambda _why: None
        )
        made: list[str] = []

        def make(peer: str, _key: str) -> TrackedRequestHandler:
            made.append(peer)
            raise AssertionError

        acceptor = BulkAcceptor(listeners, partial(limiter.accept, make), lambda: None)
        acceptor.start()
        stack.callback(acceptor.stop)
        async with await RawSocket.tcp(listeners[0].getsockname()[1]) as raw:
            await raw.upgraded()
            assert (raw.status, raw.body) == (503, b"Too many connections")
            raw._buffer.clear()
            assert await raw.read_to_end() == b""
        assert made == []


class TestDescriptors:
    async def test_descriptors_are_left_for_the_bus_and_for_devices(
        self, tmp_path: Path, redis_server: RedisServer, stack: ExitStack
    ) -> None:
        gateway = stack.enter_context(
            gateway_process(tmp_path, redis_server, descriptors=DESCRIPTORS)
        )
        async with FakeApproval(redis_server.approval_url, BUS_SECRET):
            await gateway.until_ready()
            for _ in range(DESCRIPTORS):
                await idle(gateway.port, stack)
            for _ in range(DESCRIPTORS):
                raw = await RawSocket.tcp(gateway.port)
                stack.callback(raw.hang_up)
            await gateway.until_ready()
            device = await RawSocket.open(gateway.port)
            stack.callback(device.hang_up)
            answer = await device.connect(None, CLI, Credentials(token=GATEWAY_TOKEN))
            assert answer["ok"]
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"{gateway.url}/metrics") as metrics,
            ):
                assert "latchkey_gateway_descriptors_exhausted_total 0.0" in await metrics.text()
            assert not [line for line in gateway.logs() if line["event"] == "descriptors.exhausted"]
