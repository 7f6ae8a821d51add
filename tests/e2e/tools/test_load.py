"""The load tool as people start it: its report, and an exit status that reflects its findings."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from deploy.local.places import ROOT
from deploy.local.run_file import run_file
from tests.support.stubs.gateway import Socket, stub_gateway
from tools.load.plan import Phase
from tools.load.workers.arrivals import arrivals
from tools.support.processes.process_table import alive, descendants
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack


TLS = Path(__file__).parents[2] / "integration" / "bus" / "tls"


class Result(NamedTuple):
    status: int
    text: str
    errors: str


class Started:
    """A running load tool."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._errors: list[str] = []

    async def says(self, text: str) -> None:
        """Wait until standard error contains this."""
        assert self.process.stderr
        async with asyncio.timeout(30):
            while text not in (line := (await self.process.stderr.readline()).decode()):
                assert line, f"it ended: {self._errors}"
                self._errors.append(line)

    async def result(self) -> Result:
        async with asyncio.timeout(50):
            text, errors = await self.process.communicate()
        assert self.process.returncode is not None
        return Result(self.process.returncode, text.decode(), errors.decode())


@asynccontextmanager
async def load(*words: str, env: dict[str, str] | None = None) -> AsyncIterator[Started]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tools.load", *words),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **(env or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Started(process)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
            await process.wait()


async def run_load(*words: str, env: dict[str, str] | None = None) -> Result:
    async with load(*words, env=env) as started:
        return await started.result()


def at(stack: Stack, *, gateway: str = "") -> list[str]:
    url = gateway or stack.gateways[0].ws_url
    return ["--url", url, "--approval-url", stack.approvals[0].url]


@asynccontextmanager
async def tls_before(port: int) -> AsyncIterator[str]:
    """Serve TLS for a port of this machine; yields the wss:// address."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "certificate.pem", TLS / "key.pem")
    server = await asyncio.start_server(carry, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"wss://localhost:{server.sockets[0].getsockname()[1]}"


def tokens(stack: Stack) -> dict[str, str]:
    return {
        "OPENCLAW_GATEWAY_TOKEN": stack.gateway_token,
        "APPROVAL_ADMIN_TOKEN": stack.admin_token,
    }


async def call(stack: Stack, method: str, path: str) -> Any:
    headers = {"Authorization": f"Bearer {stack.admin_token}"}
    async with (
        aiohttp.ClientSession(stack.approvals[0].url, headers=headers) as session,
        session.request(method, path) as answer,
    ):
        answer.raise_for_status()
        return await answer.json()


def kinds(report: Any) -> set[str]:
    return {row["kind"] for phase in report["phases"] for row in phase["outcomes"]}


async def test_without_an_address_a_temporary_stack_is_loaded(tmp_path: Path) -> None:
    files = ["--json", str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html")]
    result = await run_load("closed", "--seconds", "1", "--devices", "8", "--workers", "2", *files)
    assert result.status == 0, result
    report = json.loads((tmp_path / "r.json").read_text())
    closed = report["phases"][-1]
    assert kinds(report) == {"admitted"}
    assert closed["perSecond"] > 0
    assert closed["latencyMs"]["count"] == closed["outcomes"][0]["count"]
    assert {use["role"] for use in closed["servers"]} == {"gateway", "approval", "redis"}
    assert "closed" in result.text
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")


async def test_interrupted_it_leaves_nothing_behind() -> None:
    async with load("closed", "--devices", "1") as started:
        await started.says("devices paired")
        left = descendants(started.process.pid)
        assert len(left) > 3
        started.process.send_signal(signal.SIGINT)
        result = await started.result()
    assert result.status == 130, result
    await until(lambda: not alive(left), "no process is left")


class TestOnAGivenStack:
    async def test_an_open_loop_runs_with_given_addresses_and_tokens(
        self, stack: Stack, tmp_path: Path
    ) -> None:
        file = tmp_path / "r.json"
        words = ["--rate", "50", "--seconds", "1", "--warm-up", "0", "--devices", "4"]
        words += ["--poisson", "--seed", "5"]
        result = await run_load("open", *words, *at(stack), "--json", str(file), env=tokens(stack))
        assert result.status == 0, result
        (phase,) = json.loads(file.read_text())["phases"]
        drawn = Phase("open", 1, 4096, rate=50, is_open=True, poisson=True, seed=5)
        count = len(list(arrivals(drawn, index=0, worker=0, workers=1)))
        assert count != 50
        assert phase["latencyMs"]["count"] == count
        assert 0 <= phase["startDelayMs"]["p50"] <= phase["startDelayMs"]["p99"]
        assert "starts    late by p50" in result.text
        secrets = tokens(stack).values()
        assert not any(secret in file.read_text() + result.text for secret in secrets)
        assert (await call(stack, "GET", "/v1/devices"))["devices"] == []

    async def test_a_gateway_is_loaded_over_tls(self, stack: Stack, tmp_path: Path) -> None:
        file = tmp_path / "r.json"
        words = ["--seconds", "0.5", "--in-flight", "8", "--devices", "2", "--json", str(file)]
        env = {**tokens(stack), "SSL_CERT_FILE": str(TLS / "certificate.pem")}
        async with tls_before(stack.gateways[0].port) as url:
            result = await run_load("closed", *words, *at(stack, gateway=url), env=env)
        assert result.status == 0, result
        assert kinds(json.loads(file.read_text())) == {"admitted"}

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    async def test_interrupted_it_removes_its_devices(
        self, stack: Stack, number: signal.Signals
    ) -> None:
        words = ["closed", "--devices", "3", *at(stack)]
        async with load(*words, env=tokens(stack)) as started:
            await started.says("devices paired")
            assert len((await call(stack, "GET", "/v1/devices"))["devices"]) == 3
            started.process.send_signal(number)
            result = await started.result()
        assert result.status == 130, result
        assert (await call(stack, "GET", "/v1/devices"))["devices"] == []

    async def test_unauthenticated_clients_are_refused_and_forgotten(
        self, stack: Stack, tmp_path: Path
    ) -> None:
        file = tmp_path / "r.json"
        words = ["--seconds", "1", "--warm-up", "0", "--devices", "4", "--json", str(file)]
        result = await run_load("refusals", *words, *at(stack), env=tokens(stack))
        assert result.status == 0, result
        assert kinds(json.loads(file.read_text())) == {"refused"}
        assert (await call(stack, "GET", "/v1/requests"))["pending"] == []

    async def test_a_storm_and_a_revocation_are_measured(
        self, stack: Stack, tmp_path: Path
    ) -> None:
        file = tmp_path / "r.json"
        held = ["--connections", "20", "--devices", "4", "--json", str(file)]
        storm = await run_load("storm", "--jitter", "0.1", *held, *at(stack), env=tokens(stack))
        assert storm.status == 0, storm
        assert json.loads(file.read_text())["moments"]["back100"] > 0
        revoke = await run_load("revoke", *held, *at(stack), env=tokens(stack))
        assert revoke.status == 0, revoke
        closes = json.loads(file.read_text())["moments"]["closes"]
        assert [(row["closeCode"], row["count"]) for row in closes] == [(4001, 20)]

    async def test_an_approved_device_that_is_refused_fails_the_run(
        self, stack: Stack, tmp_path: Path
    ) -> None:
        file = tmp_path / "r.json"
        words = ["--rate", "20", "--seconds", "4", "--devices", "1", "--json", str(file)]
        async with load("open", *words, *at(stack), env=tokens(stack)) as started:
            await started.says("devices paired")
            (device,) = (await call(stack, "GET", "/v1/devices"))["devices"]
            await call(stack, "POST", f"/v1/devices/{device['deviceId']}/tokens/node/revoke")
            result = await started.result()
        assert result.status == 1, result
        assert "wrongly refused" in kinds(json.loads(file.read_text()))
        assert "refusals of approved devices" in result.text

    async def test_a_gateway_that_admits_everybody_fails_the_run(
        self, stack: Stack, tmp_path: Path
    ) -> None:
        async def everybody(socket: Socket) -> None:
            await socket.admit()
            await socket.hear_anything()

        file = tmp_path / "r.json"
        words = ["--seconds", "1", "--warm-up", "0", "--in-flight", "4", "--json", str(file)]
        async with stub_gateway(everybody) as url:
            target = at(stack, gateway=url)
            result = await run_load("refusals", *words, *target, env=tokens(stack))
        assert result.status == 1, result
        assert kinds(json.loads(file.read_text())) == {"wrongly admitted"}


@asynccontextmanager
async def approving_only(stack: Stack, count: int) -> AsyncIterator[str]:
    """Serve an approval API that refuses every approval after this many."""
    approved = 0

    async def carry(request: web.Request) -> web.Response:
        nonlocal approved
        if request.path.endswith("/approve"):
            approved += 1
            if approved > count:
                return web.json_response({}, status=503, content_type="application/problem+json")
        headers = {"Authorization": request.headers["Authorization"]}
        url = stack.approvals[0].url + request.path
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.request(request.method, url) as answer,
        ):
            return web.Response(
                status=answer.status, body=await answer.read(), content_type=answer.content_type
            )

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", carry)
    async with TestServer(app) as server:
        yield f"http://127.0.0.1:{server.port}"


async def nothing_is_left(stack: Stack) -> None:
    """Assert that no request is pending and no device is paired."""
    assert (await call(stack, "GET", "/v1/requests"))["pending"] == []
    assert (await call(stack, "GET", "/v1/devices"))["devices"] == []


class TestBeforeAndAfter:
    """Approval is asked before anything is created, and what was created is removed."""

    async def test_an_approval_that_does_not_answer_ends_it_before_any_device_asks(
        self, stack: Stack, unused_tcp_port: int
    ) -> None:
        words = ["--url", stack.gateways[0].ws_url]
        words += ["--approval-url", f"http://127.0.0.1:{unused_tcp_port}"]
        result = await run_load("closed", *words, env=tokens(stack))
        assert result.status == 2
        assert result.errors.startswith("Not run: approval does not answer at http://127.0.0.1:")
        assert result.errors.count("\n") == 1
        await nothing_is_left(stack)

    async def test_a_wrong_admin_token_ends_it_before_any_device_asks(self, stack: Stack) -> None:
        env = {**tokens(stack), "APPROVAL_ADMIN_TOKEN": "w" * 32}
        result = await run_load("closed", *at(stack), env=env)
        assert result.status == 2
        assert "does not accept this admin token" in result.errors
        await nothing_is_left(stack)

    async def test_the_approval_of_another_gateway_ends_it_before_any_device_asks(
        self, stack: Stack, start_stack: StartStack
    ) -> None:
        other = start_stack(approvals=1, gateways=1)
        words = ["--url", stack.gateways[0].ws_url, "--approval-url", other.approvals[0].url]
        env = {**tokens(stack), "APPROVAL_ADMIN_TOKEN": other.admin_token}
        result = await run_load("closed", *words, env=env)
        assert result.status == 2
        assert "is not the one behind" in result.errors
        await nothing_is_left(stack)

    async def test_what_answers_and_is_no_approval_is_named(self, stack: Stack) -> None:
        words = ["--url", stack.gateways[0].ws_url, "--approval-url", stack.gateways[0].url]
        result = await run_load("closed", *words, env=tokens(stack))
        assert result.status == 2
        assert "is not Latchkey's approval service" in result.errors

    async def test_a_start_that_breaks_off_leaves_no_device_and_no_request(
        self, stack: Stack
    ) -> None:
        async with approving_only(stack, 5) as approval:
            words = ["--url", stack.gateways[0].ws_url, "--approval-url", approval]
            result = await run_load("closed", "--devices", "40", *words, env=tokens(stack))
        assert result.status == 2, result
        assert "HTTP 503" in result.errors
        await nothing_is_left(stack)

    async def test_its_devices_are_known_for_its_own(self, stack: Stack) -> None:
        words = ["closed", "--devices", "2", *at(stack)]
        async with load(*words, env=tokens(stack)) as started:
            await started.says("devices paired")
            devices = (await call(stack, "GET", "/v1/devices"))["devices"]
            assert {device["displayName"] for device in devices} == {"latchkey load test"}
            started.process.send_signal(signal.SIGINT)
            await started.result()
        await nothing_is_left(stack)


async def test_without_an_address_it_loads_what_make_run_started(
    stack: Stack, tmp_path: Path
) -> None:
    addresses = {
        "GATEWAY_URL": stack.gateways[0].ws_url,
        "APPROVAL_URL": stack.approvals[0].url,
        "APPROVAL_PUBLIC_URL": stack.approvals[0].url,
    }
    words = ["closed", "--seconds", "0.5", "--devices", "2", "--url"]
    env = {**tokens(stack), "DATA_DIR": str(tmp_path)}
    none = await run_load(*words, env=env)
    assert none.status == 2
    assert "`make run` is not running here" in none.errors
    with run_file(tmp_path, addresses):
        result = await run_load(*words, env=env)
    assert result.status == 0, result
    assert stack.gateways[0].ws_url in result.text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["closed", "--url", "wss://gateway.example"], "--remote"),
        (["nonsense"], "invalid choice"),
        (
            ["closed", "--url", "ws://127.0.0.1:9", "--approval-url", "http://127.0.0.1:9"],
            "not set",
        ),
    ],
)
async def test_what_cannot_be_run_says_why(words: list[str], expected: str, tmp_path: Path) -> None:
    result = await run_load(*words, env={"DATA_DIR": str(tmp_path)})
    assert result.status == 2
    assert expected in result.errors
