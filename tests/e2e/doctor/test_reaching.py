"""The doctor at addresses without a gateway: each cause is produced for real."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from deploy.local.ports import Reservation
from services.cli.doctor import causes
from services.cli.doctor.checks.network import is_this_machine
from services.cli.doctor.journey import State
from tools.support.walking import HASTY, findings_of, stopped_by, warned_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

OWN = Path(__file__).parent / "tls"
GOOD = Path(__file__).parents[2] / "integration" / "bus" / "tls"
GOOD_FOREVER = (GOOD / "certificate.pem", GOOD / "key.pem")
EXPIRED = (OWN / "expired.pem", OWN / "key.pem")
OTHER_NAME = (OWN / "other_name.pem", OWN / "key.pem")


@asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """Serve TCP; yields host and port."""

    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(closing, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def http(
    status: int = 200,
    *,
    headers: dict[str, str] | None = None,
    **body: Any,
) -> AsyncIterator[str]:
    """Serve one answer to everything; yields host and port."""

    async def answer(_request: web.Request) -> web.Response:
        if "json" in body:
            return web.json_response(body["json"], status=status)
        return web.Response(status=status, text="hello", headers=headers)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with TestServer(app) as server:
        yield f"localhost:{server.port}"


@asynccontextmanager
async def https(files: tuple[Path, Path]) -> AsyncIterator[str]:
    """Serve HTTPS with these files; yields host and port."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*files)
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        port = runner.addresses[0][1]
        yield f"localhost:{port}"
    finally:
        await runner.cleanup()


class TestName:
    async def test_an_unknown_name_is_found(self) -> None:
        found = await stopped_by("wss://no..name", causes.NAME_UNKNOWN)
        assert found.step == "name"


class TestTcp:
    async def test_a_refused_connection_is_found(self) -> None:
        with ExitStack() as stack:
            port = Reservation()
            stack.callback(port.release)
            found = await stopped_by(f"ws://127.0.0.1:{port.port}", causes.TCP_REFUSED)
            assert f"port {port.port}" in found.found

    async def test_a_port_that_does_not_answer_is_found(self) -> None:
        """A full accept queue accepts no connection."""
        with ExitStack() as stack:
            full = stack.enter_context(socket.socket())
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            for _ in range(4):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(full.getsockname())
            url = f"ws://127.0.0.1:{full.getsockname()[1]}"
            await stopped_by(url, causes.TCP_SILENT, timeouts=HASTY)


class TestInTheClear:
    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
    def test_addresses_of_this_machine_are_recognized(self, host: str) -> None:
        assert is_this_machine(host)

    @pytest.mark.parametrize("host", ["gateway.example", "10.0.0.1", "localhost.example"])
    def test_can_be_read_on_the_way(self, host: str) -> None:
        assert not is_this_machine(host)


class TestTls:
    @pytest.fixture(autouse=True)
    def trusted(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        bundle = tmp_path / "trusted.pem"
        files = (GOOD_FOREVER, EXPIRED, OTHER_NAME)
        bundle.write_text("".join(certificate.read_text() for certificate, _ in files))
        monkeypatch.setenv("SSL_CERT_FILE", str(bundle))

    async def test_a_self_signed_certificate_is_found(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        nobody = tmp_path / "nobody.pem"
        nobody.write_text("")
        monkeypatch.setenv("SSL_CERT_FILE", str(nobody))
        async with https(GOOD_FOREVER) as where:
            await stopped_by(f"wss://{where}", causes.TLS_UNTRUSTED)

    async def test_an_expired_certificate_is_found(self) -> None:
        async with https(EXPIRED) as where:
            found = await stopped_by(f"wss://{where}", causes.TLS_EXPIRED)
            assert "expired" in found.found

    async def test_a_certificate_for_another_name_is_found(self) -> None:
        async with https(OTHER_NAME) as where:
            found = await stopped_by(f"wss://{where}", causes.TLS_OTHER_NAME)
            assert "localhost" in found.cure

    async def test_a_certificate_that_expires_soon_is_a_warning(self) -> None:
        ends = ssl.cert_time_to_seconds("Oct 29 11:10:02 2126 GMT")
        async with https(GOOD_FOREVER) as where:
            found = await warned_of(
                f"wss://{where}", causes.TLS_ENDS_SOON, now=lambda: ends - 3 * 86_400
            )
            assert "another 3 days" in found.found

    async def test_a_port_without_tls_is_found(self) -> None:
        async with http() as where:
            found = await stopped_by(f"wss://{where}", causes.TLS_NOT_SPOKEN)
            assert f"ws://127.0.0.1:{where.rpartition(':')[2]}" in found.cure

    async def test_a_port_with_tls_is_found(self) -> None:
        async with https(GOOD_FOREVER) as where:
            found = await stopped_by(f"ws://{where}", causes.TLS_WANTED)
            assert f"wss://{where}" in found.cure


class TestHttp:
    async def test_a_server_that_speaks_no_http_is_found(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(b"-ERR unknown command\r\n")
            await writer.drain()

        async with listening(serve) as where:
            await stopped_by(f"ws://{where}", causes.NOT_HTTP)

    async def test_a_server_without_an_http_response_is_found(self) -> None:
        async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            await reader.read()

        async with listening(serve) as where:
            await stopped_by(f"ws://{where}", causes.HTTP_SILENT, timeouts=HASTY)

    async def test_a_redirect_is_found(self) -> None:
        there = {"Location": "https://gateway.example/readyz"}
        async with http(301, headers=there) as where:
            found = await stopped_by(f"ws://{where}", causes.REDIRECTED)
            assert "wss://gateway.example" in found.cure

    @pytest.mark.parametrize("status", [500, 502, 503, 504])
    async def test_a_proxy_without_a_gateway_is_found(self, status: int) -> None:
        async with http(status, headers={"Server": "edge"}) as where:
            found = await stopped_by(f"ws://{where}", causes.PROXY_ALONE)
            assert str(status) in found.found

    async def test_a_login_page_is_found(self) -> None:
        there = {"Location": "https://login.example/?next=/readyz"}
        async with http(302, headers=there) as where:
            found = await stopped_by(f"ws://{where}", causes.LOGIN_REQUIRED)
            assert "https://login.example/" in found.found

    async def test_a_challenge_for_browsers_is_found(self) -> None:
        async with http(503, headers={"cf-mitigated": "challenge"}) as where:
            await stopped_by(f"ws://{where}", causes.FORBIDDEN)

    @pytest.mark.parametrize("status", [403, 429])
    async def test_a_firewall_is_found(self, status: int) -> None:
        async with http(status) as where:
            await stopped_by(f"ws://{where}", causes.FORBIDDEN)

    @pytest.mark.parametrize("status", [401, 407])
    async def test_a_login_of_the_proxy_is_found(self, status: int) -> None:
        async with http(status, headers={"WWW-Authenticate": "Basic"}) as where:
            await stopped_by(f"ws://{where}", causes.LOGIN_REQUIRED)

    @pytest.mark.parametrize("status", [200, 404])
    async def test_another_server_is_found(self, status: int) -> None:
        async with http(status) as where:
            await stopped_by(f"ws://{where}", causes.ANOTHER_SERVER)

    async def test_a_gateway_that_does_not_say_what_it_misses(self) -> None:
        async with http(503, json={"ready": False, "bootId": "boot"}) as where:
            await stopped_by(f"ws://{where}", causes.NOT_READY)

    async def test_what_a_server_says_is_no_instruction_to_the_terminal(self) -> None:
        async with http(302, headers={"Location": "https://x.example/{host}/readyz"}) as where:
            findings = await findings_of(f"ws://{where}")
        assert findings[-1].state is State.WRONG
        assert "{host}" in findings[-1].cure
