"""HTTP and raw WebSockets through a gateway to the upstream: real services, a stub in its place."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
from yarl import URL

from services.approval.domain.lockout import FAILURES_LIMIT
from services.approval.storage.keys import guard_key, wrong_values_key
from services.cli.doctor import upstream_causes
from services.cli.doctor.journey import State
from shared.device_tokens import with_device_id
from shared.upstream import CLIENT_USER, header_names
from tests.support.plain_http import ask
from tests.support.stub_upstream import ETAG, LARGE, stub_upstream
from tools.support.people import Visitor
from tools.support.waiting import wait_until
from tools.support.walking import findings_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import StartStack
    from tests.support.stub_upstream import StubUpstream
    from tools.support.people import Operator
    from tools.support.service import ServiceProcess
    from tools.support.stack import Stack

SECRET: Final = "the-upstream-secret-of-these-tests"
OLDER: Final = "the-one-before-the-upstream-secret"
CONFIG: Final = "/control-ui-config.json"
TLS: Final = Path(__file__).parents[1] / "integration" / "bus" / "tls"
ORIGIN: Final = "https://chat.example"
NAMES: Final = [header_names(SECRET), header_names(OLDER)]

pytestmark = pytest.mark.usefixtures("unlocked")


@pytest.fixture(scope="module")
def upstream() -> Iterator[StubUpstream]:
    """One upstream."""
    with stub_upstream() as stub:
        yield stub


@pytest.fixture(scope="module")
def stack(start_stack: StartStack, upstream: StubUpstream) -> Stack:
    """Two gateways before the upstream, one without, to get device tokens from."""
    stack = start_stack(
        gateways=2,
        env={"TRUSTED_PROXIES": "127.0.0.0/8"},
        gateway_env={
            "UPSTREAM_URL": upstream.url,
            "UPSTREAM_SECRET": f"{SECRET},{OLDER}",
            "GATEWAY_ALLOWED_ORIGINS": ORIGIN,
            "APPROVAL_PUBLIC_URL": "https://approval.example",
        },
    )
    stack.add_gateway(UPSTREAM_URL="")
    return stack


@pytest.fixture
def gateway(stack: Stack) -> ServiceProcess:
    """Return one of those before the upstream."""
    return stack.gateways[0]


async def paired(stack: Stack, operator: Operator) -> tuple[Visitor, str]:
    """Return a device that is in, and its token with its id in front."""
    visitor = Visitor(stack)
    alone = stack.gateways[2]
    (await operator.approve(await visitor.waits(alone))).ok()
    admitted = await visitor.visits(alone)
    return visitor, with_device_id(admitted.device_token or "", visitor.device_id)


def bearer(token: str, **more: str) -> dict[str, str]:
    """Return the header for a token."""
    return {"Authorization": f"Bearer {token}", **more}


async def test_a_page_passes_as_it_is_with_its_raw_path_and_without_an_identity(
    gateway: ServiceProcess, upstream: StubUpstream
) -> None:
    reply = await ask(gateway.port, "/agents/a%2Fb?x=%20y&z", headers={"Accept-Encoding": "br"})
    assert reply.status == 200
    came = upstream.last("/agents/a%2Fb")
    assert came.target == "/agents/a%2Fb?x=%20y&z"
    assert came.all("Accept-Encoding") == ["br"]
    assert reply.json["users"] == []
    assert came.all("Host") == [f"127.0.0.1:{gateway.port}"]
    assert came.all("User-Agent") == []


async def test_loopback_clients_are_told_of_by_an_address_that_is_not(
    gateway: ServiceProcess, upstream: StubUpstream
) -> None:
    await ask(gateway.port, "/own-machine")
    assert upstream.last("/own-machine").all("X-Forwarded-For") == ["192.0.2.1"]
    await ask(gateway.port, "/far", headers={"X-Forwarded-For": "198.51.100.9, 203.0.113.7"})
    assert upstream.last("/far").all("X-Forwarded-For") == ["203.0.113.7"]


async def test_forged_headers_are_not_passed_on(
    gateway: ServiceProcess, upstream: StubUpstream
) -> None:
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
    came = upstream.last("/forged")
    for name in (*(one.required for one in NAMES), "X-OpenClaw-Scopes", "Cookie", "Authorization"):
        assert came.all(name) == []
    assert came.all("X-Forwarded-Host") == [f"127.0.0.1:{gateway.port}"]


async def test_assets_are_passed_with_their_coding_their_etag_and_in_parts(
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


async def test_a_redirect_is_the_clients_to_follow(
    gateway: ServiceProcess, upstream: StubUpstream
) -> None:
    reply = await ask(gateway.port, "/moved")
    assert (reply.status, reply.headers["location"]) == (302, "/elsewhere")
    assert upstream.asked("/elsewhere") == 0


async def test_bodies_pass_both_ways(gateway: ServiceProcess, upstream: StubUpstream) -> None:
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


async def test_several_cookies_stay_several(gateway: ServiceProcess) -> None:
    async with (
        aiohttp.ClientSession(gateway.url) as client,
        client.get("/cookies") as answer,
    ):
        assert answer.headers.getall("Set-Cookie") == ["a=1", "b=2"]


async def test_an_answer_is_passed_while_it_is_made(
    gateway: ServiceProcess, upstream: StubUpstream
) -> None:
    upstream.release.clear()
    async with aiohttp.ClientSession(gateway.url) as client, client.get("/slow") as answer:
        assert await answer.content.readline() == b"data: first\n"
        upstream.release.set()
        assert b"last" in await answer.read()


async def test_an_answer_that_breaks_off_does_not_look_whole(gateway: ServiceProcess) -> None:
    async with aiohttp.ClientSession(gateway.url) as client:
        with pytest.raises(aiohttp.ClientError):
            async with client.get("/cut") as answer:
                await answer.read()


@pytest.mark.parametrize(
    "path",
    ["/v1/models", "/tools/invoke", "/hooks/wake", "/avatar/../v1/x", "/%76%31/x", "//v1/x"],
)
async def test_interfaces_for_programs_are_not_there(
    gateway: ServiceProcess, upstream: StubUpstream, path: str, stack: Stack
) -> None:
    before = len(upstream.came)
    reply = await ask(gateway.port, path, headers=bearer(stack.gateway_token))
    assert reply.status == 404
    assert not [one for one in upstream.came[before:] if one.target != "/health"]


async def test_what_is_the_gateways_stays_so(gateway: ServiceProcess, stack: Stack) -> None:
    assert (await ask(gateway.port, "/health")).json == {"ok": True, "status": "live"}
    assert (await ask(gateway.port, "/readyz")).json["bootId"] == gateway.boot_id
    assert b"latchkey_gateway_upstream_up 1.0" in (await ask(gateway.port, "/metrics")).body
    setup = await ask(gateway.port, "/setup")
    assert setup.headers["location"] == "https://approval.example/setup"
    assert (await ask(stack.gateways[2].port, "/")).headers["content-type"].startswith("text/")


class TestTokens:
    async def test_the_gateway_token_reads_and_no_more(
        self, stack: Stack, gateway: ServiceProcess, upstream: StubUpstream
    ) -> None:
        reply = await ask(gateway.port, CONFIG, headers=bearer(stack.gateway_token))
        assert reply.json["users"] == [CLIENT_USER, CLIENT_USER]
        came = upstream.last(CONFIG)
        assert came.all("X-OpenClaw-Scopes") == ["operator.read"]
        assert came.all(NAMES[0].required) == ["1"]
        assert came.all("Authorization") == []

    async def test_a_device_token_has_the_scopes_of_its_device(
        self, stack: Stack, gateway: ServiceProcess, upstream: StubUpstream, operator: Operator
    ) -> None:
        _, token = await paired(stack, operator)
        reply = await ask(gateway.port, CONFIG, headers=bearer(token))
        assert reply.json["users"] == [CLIENT_USER, CLIENT_USER]
        assert upstream.last(CONFIG).all("X-OpenClaw-Scopes") == ["operator.read"]

    async def test_it_is_void_everywhere_once_the_device_is_removed(
        self, stack: Stack, operator: Operator
    ) -> None:
        visitor, token = await paired(stack, operator)
        for gateway in stack.gateways[:2]:
            assert (await ask(gateway.port, CONFIG, headers=bearer(token))).status == 200
        (await operator.remove(visitor.device_id)).ok()
        for gateway in stack.gateways[:2]:
            assert (await ask(gateway.port, CONFIG, headers=bearer(token))).status == 401

    async def test_it_is_the_token_of_no_other_device(
        self, stack: Stack, gateway: ServiceProcess, operator: Operator
    ) -> None:
        visitor, _ = await paired(stack, operator)
        other, _ = await paired(stack, operator)
        stolen = with_device_id(visitor.token, other.device_id)
        assert (await ask(gateway.port, CONFIG, headers=bearer(stolen))).status == 401

    async def test_a_token_is_no_use_where_none_is_needed(
        self, stack: Stack, gateway: ServiceProcess
    ) -> None:
        reply = await ask(gateway.port, "/api/admin", headers=bearer(stack.gateway_token))
        assert reply.json["users"] == []

    async def test_a_token_of_before_is_no_use_and_counts_as_no_guess(
        self, stack: Stack, gateway: ServiceProcess, operator: Operator
    ) -> None:
        for _ in range(FAILURES_LIMIT + 1):
            text = secrets.token_urlsafe(32)
            assert (await ask(gateway.port, CONFIG, headers=bearer(text))).status == 401
        right = await ask(gateway.port, CONFIG, headers=bearer(stack.gateway_token))
        assert right.status == 200
        visitor, _ = await paired(stack, operator)
        reply = await ask(gateway.port, CONFIG, headers=bearer(visitor.token))
        assert reply.status == 401

    @pytest.mark.parametrize("kind", ["gateway token", "device token"])
    async def test_wrong_ones_lock_out_and_a_right_one_is_then_answered_alike(
        self, stack: Stack, operator: Operator, kind: str
    ) -> None:
        visitor, token = await paired(stack, operator)

        def wrong() -> str:
            if kind == "gateway token":
                return secrets.token_hex(32)
            return with_device_id(secrets.token_urlsafe(32), visitor.device_id)

        right = stack.gateway_token if kind == "gateway token" else token
        gateways = stack.gateways[:2]
        statuses = [
            (await ask(gateways[at % 2].port, CONFIG, headers=bearer(wrong()))).status
            for at in range(FAILURES_LIMIT)
        ]
        assert statuses == [401] * FAILURES_LIMIT
        for gateway in gateways:
            replies = [
                await ask(gateway.port, CONFIG, headers=bearer(one)) for one in (right, wrong())
            ]
            assert [one.status for one in replies] == [429, 429]
            assert replies[0].body == replies[1].body
            assert 0 < int(replies[0].headers["retry-after"]) <= 300
        stack.redis.call("DEL", guard_key("127.0.0.1"), wrong_values_key("127.0.0.1"))

    async def test_a_foreign_page_has_no_use_of_a_token(
        self, stack: Stack, gateway: ServiceProcess, upstream: StubUpstream
    ) -> None:
        foreign = bearer(stack.gateway_token, Origin="https://evil.example", Via="x")
        assert (await ask(gateway.port, CONFIG, headers=foreign)).status == 403
        own = bearer(stack.gateway_token, Origin=ORIGIN)
        assert (await ask(gateway.port, CONFIG, headers=own)).status == 200
        assert upstream.last(CONFIG).all("Origin") == [ORIGIN]

    async def test_without_approval_nobody_can_say_and_none_is_called_wrong(
        self, stack: Stack, gateway: ServiceProcess, operator: Operator
    ) -> None:
        _, token = await paired(stack, operator)
        stack.approvals[0].pause()
        try:
            for one in (token, stack.gateway_token):
                reply = await ask(gateway.port, CONFIG, headers=bearer(one))
                assert reply.status == 503
                assert reply.json["error"]["type"] == "unavailable"
            assert (await ask(gateway.port, "/chat")).status == 200
        finally:
            stack.approvals[0].resume()
        for service in stack.services:
            await service.until_ready()


class TestPipes:
    async def test_bytes_pass_both_ways_for_a_known_address(
        self, stack: Stack, gateway: ServiceProcess, upstream: StubUpstream, operator: Operator
    ) -> None:
        await knows(gateway, stack, operator)
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

    async def test_also_on_a_connection_that_was_used_before(
        self, stack: Stack, gateway: ServiceProcess, operator: Operator
    ) -> None:
        await knows(gateway, stack, operator)
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

    async def test_strangers_open_no_socket_to_the_upstream(
        self, gateway: ServiceProcess, upstream: StubUpstream
    ) -> None:
        before = upstream.asked("/node-desktop/attach")
        headers = {"X-Forwarded-For": "203.0.113.200"}
        async with aiohttp.ClientSession(headers=headers) as client:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await client.ws_connect(f"{gateway.ws_url}/node-desktop/attach")
        assert refused.value.status == 403
        assert upstream.asked("/node-desktop/attach") == before

    @pytest.mark.parametrize("path", ["/__openclaw__/worker", "/desktop/x", "/hooks/x"])
    async def test_other_sockets_of_the_upstream_are_not_there(
        self, gateway: ServiceProcess, upstream: StubUpstream, path: str
    ) -> None:
        async with aiohttp.ClientSession() as client:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await client.ws_connect(gateway.ws_url + path)
        assert refused.value.status == 404
        assert upstream.asked(path) == 0


async def knows(gateway: ServiceProcess, stack: Stack, operator: Operator) -> None:
    """Let a device be admitted at this gateway from this machine's address."""
    visitor, _ = await paired(stack, operator)
    async with visitor.client(gateway) as client:
        await client.connect()  # admitted, and told to come back: the stub speaks no protocol


async def test_every_replicas_list_says_what_each_gateway_finds(
    stack: Stack, operator: Operator, upstream: StubUpstream
) -> None:
    async def seen() -> list[Any]:
        live = (await operator.call("GET", "replicas")).ok()["gateways"]
        found = {one["bootId"]: one.get("upstream") for one in live}
        return [found.get(gateway.boot_id) for gateway in stack.gateways]

    # The stub answers `/health`, and speaks no protocol.
    wrong = {"reachable": True, "problems": ["upstream-no-openclaw"]}
    found: list[Any] = []
    for _ in range(100):
        found = await seen()
        if found == [wrong, wrong, None]:
            break
        await asyncio.sleep(0.2)
    assert found == [wrong, wrong, None]
    ready = (await ask(stack.gateways[0].port, "/readyz")).json["dependencies"]["upstream"]
    assert (ready["ok"], ready["warnings"]) == (True, ["upstream-no-openclaw"])
    assert upstream.asked("/health") > 1


async def test_while_the_upstream_is_away_pages_say_so_and_it_comes_back(
    start_stack: StartStack,
) -> None:
    with stub_upstream() as gone:
        port = gone.port
    stack = start_stack(
        gateways=1,
        gateway_env={"UPSTREAM_URL": f"ws://127.0.0.1:{port}", "UPSTREAM_SECRET": SECRET},
    )
    gateway = stack.gateways[0]
    page = await ask(gateway.port, "/chat", headers={"Accept": "text/html"})
    assert page.status == 503
    assert b"OpenClaw cannot be reached" in page.body
    assert "retry-after" in page.headers
    plain = await ask(gateway.port, "/assets/app.js")
    assert (plain.status, plain.headers["content-type"]) == (503, "text/plain; charset=utf-8")
    ready = await ask(gateway.port, "/readyz")
    assert ready.status == 200
    assert ready.json["failing"] == []
    seen = ready.json["dependencies"]["upstream"]
    assert seen["ok"] is False
    assert seen["reason"].startswith("connection refused, for ")
    await Visitor(stack).waits(gateway)  # pairing works without it
    env = {"OPENCLAW_GATEWAY_TOKEN": stack.gateway_token}
    found = await findings_of(gateway.ws_url, env=env)
    told = [(one.step, one.state) for one in found if one.cause is upstream_causes.UNREACHABLE]
    assert told == [("http", State.WARNING), ("token", State.WRONG)]
    with stub_upstream(port):
        await asyncio.to_thread(
            wait_until, lambda: _is_up(gateway), "the gateway finds it", seconds=20
        )
        assert (await ask(gateway.port, "/chat")).status == 200


@pytest.mark.parametrize("trusted", [True, False])
async def test_over_tls_only_a_certificate_that_is_trusted_counts(
    start_stack: StartStack, *, trusted: bool
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "certificate.pem", TLS / "key.pem")
    with stub_upstream(tls=context) as upstream:
        stack = start_stack(
            gateways=1,
            gateway_env={
                "UPSTREAM_URL": f"wss://localhost:{upstream.port}",
                "UPSTREAM_SECRET": SECRET,
                **({"SSL_CERT_FILE": str(TLS / "certificate.pem")} if trusted else {}),
            },
        )
        gateway = stack.gateways[0]
        page = await ask(gateway.port, "/chat")
        seen = (await ask(gateway.port, "/readyz")).json["dependencies"]["upstream"]
        assert page.status == (200 if trusted else 503)
        assert seen["ok"] is trusted
        assert trusted or seen["reason"].startswith("its certificate is not trusted: ")
        assert bool(upstream.came) is trusted
        gateway.terminate()  # before the stub, which would leave a handshake half done
        await gateway.until_ended()


def _is_up(gateway: ServiceProcess) -> bool:
    ready = asyncio.run(ask(gateway.port, "/readyz"))
    return bool(ready.json["dependencies"]["upstream"]["ok"])
