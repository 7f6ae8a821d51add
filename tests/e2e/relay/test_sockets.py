"""Raw WebSockets through a gateway to the upstream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest
from yarl import URL

from tests.e2e.relay.upstream import paired_with_token
from tests.support.stubs.upstream import LARGE

if TYPE_CHECKING:
    from tests.support.stubs.upstream import StubUpstream
    from tools.support.actors import Operator
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack


pytestmark = pytest.mark.usefixtures("no_lockouts")


async def test_bytes_pass_in_both_directions_for_a_known_address(
    stack: Stack, gateway: ServiceProcess, upstream: StubUpstream, operator: Operator
) -> None:
    await admit_at(gateway, stack, operator)
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(
            URL(f"{gateway.ws_url}/desktop/observe?ticket=a%2Fb", encoded=True),
            protocols=("ticket",),
            max_msg_size=0,
        ) as socket,
    ):
        assert socket.protocol == "ticket"
        await socket.send_str("hello")
        assert (await socket.receive_str()) == "/desktop/observe?ticket=a%2Fb hello"
        await socket.send_bytes(LARGE)
        assert (await socket.receive_bytes()) == LARGE
    assert upstream.last("/desktop/observe").all("Origin") == []


async def test_a_connection_that_was_used_before_can_be_upgraded(
    stack: Stack, gateway: ServiceProcess, operator: Operator
) -> None:
    await admit_at(gateway, stack, operator)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b'"live"}')
    writer.write(
        b"GET /__openclaw__/cap/t/x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"101 Switching Protocols" in head
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
    writer.write(b"\x81\x82\x00\x00\x00\x00hi")
    assert b"/__openclaw__/cap/t/x hi" in await reader.readuntil(b"hi")
    writer.close()


async def test_an_unknown_address_opens_no_socket_to_the_upstream(
    gateway: ServiceProcess, upstream: StubUpstream
) -> None:
    before = upstream.asked("/node-desktop/attach")
    headers = {"X-Forwarded-For": "203.0.113.200"}
    async with aiohttp.ClientSession(headers=headers) as client:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.ws_connect(f"{gateway.ws_url}/node-desktop/attach")
    assert refused.value.status == 403
    assert upstream.asked("/node-desktop/attach") == before


@pytest.mark.parametrize("path", ["/__openclaw__/worker", "/desktop/x", "/hooks/x"])
async def test_other_sockets_of_the_upstream_are_not_found(
    gateway: ServiceProcess, upstream: StubUpstream, path: str
) -> None:
    async with aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.ws_connect(gateway.ws_url + path)
    assert refused.value.status == 404
    assert upstream.asked(path) == 0


async def test_they_take_places_and_displace_nobody(stack: Stack, operator: Operator) -> None:
    gateway = stack.add_gateway(
        GATEWAY_CONNECTION_LIMIT="2", GATEWAY_CONNECTION_LIMIT_PER_ADDRESS="9"
    )
    await admit_at(gateway, stack, operator)
    url = f"{gateway.ws_url}/desktop/observe"
    async with aiohttp.ClientSession() as client:
        async with client.ws_connect(url):
            async with client.ws_connect(gateway.ws_url) as stranger:
                await stranger.receive_json()
                await refused_as_full(client, url)
            second = await client.ws_connect(url)
            await refused_as_full(client, gateway.ws_url)
            await second.close()
        async with client.ws_connect(gateway.ws_url) as socket:
            assert (await socket.receive_json())["event"] == "connect.challenge"
    gateway.kill9()


async def refused_as_full(client: aiohttp.ClientSession, url: str) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.ws_connect(url)
    assert refused.value.status == 503


async def admit_at(gateway: ServiceProcess, stack: Stack, operator: Operator) -> None:
    """Let a device be admitted at this gateway from this machine's address."""
    device, _ = await paired_with_token(stack, operator)
    async with device.client(gateway) as client:
        await client.connect()  # admitted, and told to come back: the stub speaks no protocol
