"""Pages and other HTTP through a gateway to the upstream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest

from services.gateway.relay.http.connections import CONNECTIONS_LIMIT
from tests.e2e.relay.upstream import NAMES, bearer
from tests.support.http.plain_http import ask
from tests.support.stubs.upstream import ETAG, LARGE
from tests.support.websocket.raw_socket import RawSocket
from tools.support.waiting import until

if TYPE_CHECKING:
    from tests.support.stubs.upstream import StubUpstream
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack

PER_ADDRESS: Final = 16
"""Below the limits for each address."""
SOON_SECONDS: Final = 10.0

pytestmark = pytest.mark.usefixtures("no_lockouts")


async def test_a_page_is_requested_unchanged_and_without_an_identity(
    gateway: ServiceProcess, upstream: StubUpstream
) -> None:
    reply = await ask(gateway.port, "/agents/a%2Fb?x=%20y&z", headers={"Accept-Encoding": "br"})
    assert reply.status == 200
    received = upstream.last("/agents/a%2Fb")
    assert received.target == "/agents/a%2Fb?x=%20y&z"
    assert received.all("Accept-Encoding") == ["br"]
    assert reply.json["users"] == []
    assert received.all("Host") == [f"127.0.0.1:{gateway.port}"]
    assert received.all("User-Agent") == []


async def test_a_loopback_client_is_reported_with_an_address_that_is_not_loopback(
    gateway: ServiceProcess, upstream: StubUpstream
) -> None:
    await ask(gateway.port, "/own-machine")
    assert upstream.last("/own-machine").all("X-Forwarded-For") == ["192.0.2.1"]
    await ask(gateway.port, "/far", headers={"X-Forwarded-For": "198.51.100.9, 203.0.113.7"})
    assert upstream.last("/far").all("X-Forwarded-For") == ["203.0.113.7"]


async def test_forged_headers_are_removed(gateway: ServiceProcess, upstream: StubUpstream) -> None:
    forged = {
        NAMES[0].user: "latchkey-relay",
        NAMES[0].required: "1",
        NAMES[1].user.upper(): "latchkey-relay",
        "X-OpenClaw-Scopes": "operator.admin",
        "Tailscale-User-Login": "root",
        "X-Forwarded-Host": "evil.example",
        "Cookie": "session=1",
        "Authorization": "Bearer whatever",
    }
    reply = await ask(gateway.port, "/forged", headers=forged)
    assert reply.json["users"] == []
    received = upstream.last("/forged")
    for name in (
        *(item.required for item in NAMES),
        "X-OpenClaw-Scopes",
        "Cookie",
        "Authorization",
    ):
        assert received.all(name) == []
    assert received.all("X-Forwarded-Host") == [f"127.0.0.1:{gateway.port}"]


async def test_assets_keep_their_encoding_etag_and_ranges(
    gateway: ServiceProcess,
) -> None:
    asset = "/assets/app.js"
    coded = await ask(gateway.port, asset, headers={"Accept-Encoding": "br"})
    assert coded.body == b"\x0bthese are not decoded\x03"
    assert coded.headers["content-encoding"] == "br"
    assert coded.headers["etag"] == ETAG
    assert "immutable" in coded.headers["cache-control"]
    held = await ask(gateway.port, asset, headers={"If-None-Match": ETAG})
    assert (held.status, held.body) == (304, b"")
    part = await ask(gateway.port, asset, headers={"Range": "bytes=0-3"})
    assert (part.status, part.body) == (206, b"plai")
    assert part.headers["content-range"] == "bytes 0-3/9"
    head = await ask(gateway.port, asset, "HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "9")


async def test_a_redirect_is_left_to_the_client(
    gateway: ServiceProcess, upstream: StubUpstream
) -> None:
    reply = await ask(gateway.port, "/moved")
    assert (reply.status, reply.headers["location"]) == (302, "/elsewhere")
    assert upstream.asked("/elsewhere") == 0


async def test_bodies_pass_in_both_directions(
    gateway: ServiceProcess, upstream: StubUpstream
) -> None:
    async def pieces() -> Any:
        for at in range(0, len(LARGE), 100_000):
            yield LARGE[at : at + 100_000]

    async with aiohttp.ClientSession(gateway.url) as client:
        async with client.post("/sent", data=LARGE) as answer:
            assert answer.status == 200
        assert upstream.last("/sent").body == LARGE
        assert upstream.last("/sent").all("Content-Length") == [str(len(LARGE))]
        async with client.put("/chunked", data=pieces()) as answer:
            assert answer.status == 200
        assert upstream.last("/chunked").body == LARGE
        async with client.get("/large") as answer:
            assert await answer.read() == LARGE


async def test_each_cookie_keeps_its_own_header(gateway: ServiceProcess) -> None:
    async with (
        aiohttp.ClientSession(gateway.url) as client,
        client.get("/cookies") as answer,
    ):
        assert answer.headers.getall("Set-Cookie") == ["a=1", "b=2"]


async def test_a_response_is_streamed(gateway: ServiceProcess, upstream: StubUpstream) -> None:
    upstream.release.clear()
    async with aiohttp.ClientSession(gateway.url) as client, client.get("/slow") as answer:
        assert await answer.content.readline() == b"data: first\n"
        upstream.release.set()
        assert b"last" in await answer.read()


async def test_a_truncated_response_is_an_error_for_the_client(gateway: ServiceProcess) -> None:
    async with aiohttp.ClientSession(gateway.url) as client:
        with pytest.raises(aiohttp.ClientError):
            async with client.get("/cut") as answer:
                await answer.read()


async def test_a_request_ends_at_the_upstream_when_its_client_leaves(
    gateway: ServiceProcess, upstream: StubUpstream
) -> None:
    """Otherwise a few clients could occupy all connections to the upstream."""
    clients: list[RawSocket] = []
    for number in range(CONNECTIONS_LIMIT):
        client = await RawSocket.tcp(gateway.port)
        clients.append(client)
        await client.send_bytes(
            b"GET /silent HTTP/1.1\r\nHost: gateway\r\n"
            b"X-Forwarded-For: 203.0.113.%d\r\n\r\n" % (number // PER_ADDRESS)
        )
    await until(
        lambda: upstream.asked("/silent") == CONNECTIONS_LIMIT, "every connection is in use"
    )
    asking = asyncio.create_task(ask(gateway.port, "/patient"))
    await asyncio.sleep(0.1)
    assert not asking.done()
    for client in clients:
        client.reset()
    assert (await asyncio.wait_for(asking, SOON_SECONDS)).status == 200
    await until(lambda: upstream.left == CONNECTIONS_LIMIT, "all have left the upstream")


@pytest.mark.parametrize(
    "path",
    ["/v1/models", "/tools/invoke", "/hooks/wake", "/avatar/../v1/x", "/%76%31/x", "//v1/x"],
)
async def test_interfaces_for_programs_are_not_found(
    gateway: ServiceProcess, upstream: StubUpstream, path: str, stack: Stack
) -> None:
    before = len(upstream.received)
    reply = await ask(gateway.port, path, headers=bearer(stack.gateway_token))
    assert reply.status == 404
    assert not [item for item in upstream.received[before:] if item.target != "/health"]


async def test_the_gateways_own_paths_are_not_relayed(
    gateway: ServiceProcess, stack: Stack
) -> None:
    assert (await ask(gateway.port, "/health")).json == {"ok": True, "status": "live"}
    assert (await ask(gateway.port, "/readyz")).json["bootId"] == gateway.boot_id
    assert b"latchkey_gateway_upstream_up 1.0" in (await ask(gateway.port, "/metrics")).body
    setup = await ask(gateway.port, "/setup")
    assert setup.headers["location"] == "https://approval.example/setup"
    assert (await ask(stack.gateways[2].port, "/")).headers["content-type"].startswith("text/")
