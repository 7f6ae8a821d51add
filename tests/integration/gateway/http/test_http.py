"""The gateway's plain HTTP endpoints."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from yarl import URL

from deploy.local.ports import Reservation
from tests.integration.gateway.harness import GatewayHarness
from tests.integration.gateway.process import BUS_SECRET, gateway_process
from tests.support.task_count import check_task_count
from tests.support.websocket.raw_socket import RawSocket
from tools.support.metrics import metric
from tools.support.peers import FakeApproval
from tools.support.waiting import POLL_SECONDS, WAIT_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tools.support.processes.redis import RedisServer
    from tools.support.processes.service import ServiceProcess

LIVE = {"ok": True, "status": "live"}
PAGES = ["/", "/livez", "/healthz", "/health", "/readyz", "/ready", "/metrics"]


@pytest.fixture
async def harness() -> AsyncIterator[GatewayHarness]:
    async with GatewayHarness(approval_public_url="https://approve.example") as harness:
        yield harness


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


class TestPages:
    @pytest.mark.parametrize("path", ["/health", "/healthz", "/livez"])
    async def test_livez_answers_while_the_process_runs(
        self, harness: GatewayHarness, http: aiohttp.ClientSession, path: str
    ) -> None:
        async with http.get(harness.url + path) as answer:
            assert answer.status == 200
            assert answer.content_type == "application/json"
            assert await answer.json() == LIVE

    @pytest.mark.parametrize("path", PAGES)
    async def test_head_is_get_without_the_body(
        self, harness: GatewayHarness, http: aiohttp.ClientSession, path: str
    ) -> None:
        async with http.get(harness.url + path) as got, http.head(harness.url + path) as answer:
            assert answer.status == got.status == 200
            assert answer.headers["Content-Type"] == got.headers["Content-Type"]
            assert await got.read()
            assert await answer.read() == b""

    @pytest.mark.parametrize("path", PAGES)
    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    async def test_other_methods_are_answered_with_405(
        self, harness: GatewayHarness, http: aiohttp.ClientSession, path: str, method: str
    ) -> None:
        async with http.request(method, harness.url + path) as answer:
            assert answer.status == 405
            assert answer.headers["Allow"] == "GET,HEAD"

    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
    @pytest.mark.parametrize("path", ["/nothing", "/v1/devices", "/healthz/", "/metrics/x"])
    async def test_other_paths_are_answered_with_404(
        self, harness: GatewayHarness, http: aiohttp.ClientSession, path: str, method: str
    ) -> None:
        async with http.request(method, harness.url + path) as answer:
            assert answer.status == 404
            assert answer.content_type == "text/plain"
            assert await answer.text() == ("" if method == "HEAD" else "Not Found")

    async def test_the_front_page_says_where_to_approve(
        self, harness: GatewayHarness, http: aiohttp.ClientSession
    ) -> None:
        async with http.get(harness.url) as answer:
            assert "https://approve.example" in await answer.text()

    @pytest.mark.parametrize("path", ["/setup", "/setup?token=secret"])
    async def test_setup_leads_to_approval_and_passes_nothing_on(
        self, harness: GatewayHarness, http: aiohttp.ClientSession, path: str
    ) -> None:
        async with http.get(harness.url + path, allow_redirects=False) as answer:
            assert answer.status == 302
            assert answer.headers["Location"] == "https://approve.example/setup"
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert answer.headers["Cache-Control"] == "no-store"
            assert "secret" not in f"{answer.headers} {await answer.text()}"

    async def test_setup_says_which_setting_is_missing(self, http: aiohttp.ClientSession) -> None:
        async with GatewayHarness() as harness, http.get(harness.url + "/setup") as answer:
            assert answer.status == 404
            assert "APPROVAL_PUBLIC_URL" in await answer.text()
            assert "Location" not in answer.headers

    @pytest.mark.parametrize(
        "path",
        ["//setup", "/setup/", "/./setup", "/x/../setup", "/%2e/setup", "/setup%2f", "/SETUP"],
    )
    async def test_only_the_exact_setup_path_redirects(
        self, harness: GatewayHarness, http: aiohttp.ClientSession, path: str
    ) -> None:
        url = URL(str(harness.url) + path, encoded=True)
        async with http.get(url, allow_redirects=False) as answer:
            assert answer.status == 404

    async def test_no_page_is_kept_by_a_cache(
        self, harness: GatewayHarness, http: aiohttp.ClientSession
    ) -> None:
        for path in ("/healthz", "/readyz"):
            async with http.get(harness.url + path) as answer:
                assert answer.headers["Cache-Control"] == "no-store"

    @pytest.mark.parametrize("path", ["/", "/foo", "/ws", "/chat", "/?x=1", "/healthz", "/a/b/c"])
    async def test_a_websocket_is_taken_on_any_path(
        self, harness: GatewayHarness, path: str
    ) -> None:
        async with await harness.raw(path=path) as raw:
            assert raw.status == 101
            await raw.challenge()

    async def test_a_bad_upgrade_is_refused_and_leaves_nothing(
        self, harness: GatewayHarness, http: aiohttp.ClientSession
    ) -> None:
        asked = {"Upgrade": "websocket", "Connection": "Upgrade"}
        for headers, status in (
            ({"Upgrade": "websocket"}, 400),
            (asked, 400),
            (asked | {"Sec-WebSocket-Version": "13"}, 400),
            (asked | {"Sec-WebSocket-Version": "6"}, 426),
        ):
            async with http.get(harness.url, headers=headers) as answer:
                assert answer.status == status
        assert len(harness.connections) == 0

    async def test_nonsense_is_answered_and_closed(self, harness: GatewayHarness) -> None:
        async with await RawSocket.tcp(harness.port) as raw:
            await raw.send_bytes(b"\x16\x03\x01 this is no HTTP \r\n\r\n")
            assert (await raw.read_to_end()).startswith(b"HTTP/1.0 400 ")
        async with await harness.raw() as raw:
            assert raw.status == 101


class TestMetrics:
    async def test_every_metric_has_its_meaning(
        self, harness: GatewayHarness, http: aiohttp.ClientSession
    ) -> None:
        async with await harness.raw(), http.get(harness.url + "/metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=")
            text = await answer.text()
        assert 'latchkey_gateway_connections{state="waiting"} 1.0' in text
        assert 'latchkey_gateway_connections{state="admitted"} 0.0' in text
        for family in harness.metrics.registry.collect():
            assert family.name.startswith("latchkey_gateway_")
            assert family.documentation.endswith(".")
            assert f"# HELP {family.name}" in text

    async def test_the_tasks_of_the_event_loop_are_counted(
        self, harness: GatewayHarness, http: aiohttp.ClientSession
    ) -> None:
        async def tasks() -> float | None:
            async with http.get(harness.url + "/metrics") as answer:
                return metric(await answer.text(), "latchkey_gateway_tasks")

        await check_task_count(tasks)

    async def test_with_an_ops_port_they_are_not_public(self, http: aiohttp.ClientSession) -> None:
        async with (
            GatewayHarness(own_ops_port=True) as harness,
            http.get(harness.url + "/metrics") as metrics,
            http.get(harness.url + "/readyz") as ready,
        ):
            assert metrics.status == 404
            assert await ready.json() == {"ready": True, "bootId": "harness"}


async def json_of(http: aiohttp.ClientSession, url: str) -> tuple[int, Any]:
    async with http.get(url) as answer:
        return answer.status, await answer.json()


async def failing_for_approval_alone(
    http: aiohttp.ClientSession, gateway: ServiceProcess
) -> dict[str, Any]:
    """Wait until readiness reports a missing approval and a working Redis."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            status, body = await json_of(http, f"{gateway.url}/readyz")
            if body["failing"] == ["approval"]:
                assert status == 503
                return dict(body)
            await asyncio.sleep(POLL_SECONDS)


class TestReadiness:
    async def test_it_follows_approval_and_names_the_reason(
        self, tmp_path: Path, redis_server: RedisServer, http: aiohttp.ClientSession
    ) -> None:
        with gateway_process(tmp_path, redis_server) as gateway:
            url = f"{gateway.url}/readyz"
            await until(lambda: gateway.ready_answer() is not None, "it serves")
            async with FakeApproval(redis_server.approval_url, BUS_SECRET):
                await gateway.until_ready()
                status, body = await json_of(http, url)
                assert status == 200
                assert body.keys() == {
                    *("ready", "bootId", "failing", "uptimeMs", "eventLoop", "dependencies")
                }
                assert (body["ready"], body["failing"]) == (True, [])
                assert body["dependencies"]["redis"]["ok"]
                assert body["dependencies"]["approval"] == {"ok": True, "reason": "1 live"}
                assert body["uptimeMs"] >= 0
                assert body["eventLoop"]["delayMs"] >= 0
            body = await failing_for_approval_alone(http, gateway)
            assert not body["ready"]
            assert "3 s" in body["dependencies"]["approval"]["reason"]
            assert (await json_of(http, f"{gateway.url}/healthz")) == (200, LIVE)

    async def test_it_names_a_proxy_that_is_not_trusted(
        self, tmp_path: Path, redis_server: RedisServer, http: aiohttp.ClientSession
    ) -> None:
        with gateway_process(
            tmp_path, redis_server, TRUSTED_PROXIES="127.0.0.9,10.0.0.0/8"
        ) as gateway:
            async with FakeApproval(redis_server.approval_url, BUS_SECRET):
                await gateway.until_ready()
                for source in ("127.0.0.5", "127.0.0.5", "127.0.0.9"):
                    header = [("X-Forwarded-For", "203.0.113.9")]
                    async with await RawSocket.open(
                        gateway.port, source=source, headers=header
                    ) as raw:
                        await raw.challenge()
                status, body = await json_of(http, f"{gateway.url}/readyz")
            assert status == 200
            (warning,) = body["dependencies"]["proxies"]["warnings"]
            assert warning.startswith("127.0.0.5 ")
            assert "TRUSTED_PROXIES" in warning

            def untrusted_peers() -> list[str]:
                return [
                    line["peer"] for line in gateway.logs() if line["event"] == "proxy.untrusted"
                ]

            await until(untrusted_peers, "the warning is written")
            assert untrusted_peers() == ["127.0.0.5"]


class TestOpsPort:
    async def test_reasons_and_metrics_are_only_there(
        self, tmp_path: Path, redis_server: RedisServer, http: aiohttp.ClientSession
    ) -> None:
        with (
            Reservation() as ops,
            gateway_process(tmp_path, redis_server, OPS_PORT=str(ops.port)) as gateway,
        ):
            own = f"http://127.0.0.1:{ops.port}"
            async with FakeApproval(redis_server.approval_url, BUS_SECRET):
                await gateway.until_ready()
                status, body = await json_of(http, f"{gateway.url}/readyz")
                assert (status, body.keys()) == (200, {"ready", "bootId"})
                status, body = await json_of(http, f"{own}/readyz")
                assert status == 200
                assert body["dependencies"]["approval"]["reason"] == "1 live"
                async with http.get(f"{own}/metrics") as answer:
                    assert "latchkey_gateway_handshakes" in await answer.text()
                async with http.get(f"{gateway.url}/metrics") as answer:
                    assert answer.status == 404
                assert await json_of(http, f"{own}/livez") == (200, LIVE)
                assert await json_of(http, f"{gateway.url}/livez") == (200, LIVE)
                refused = await RawSocket.open(ops.port)
                refused.hang_up()
                assert refused.status == 404
            await gateway.until_not_ready()
            status, body = await json_of(http, f"{gateway.url}/readyz")
            assert (status, body) == (503, {"ready": False, "bootId": body["bootId"]})
            assert "approval" in (await json_of(http, f"{own}/readyz"))[1]["failing"]
