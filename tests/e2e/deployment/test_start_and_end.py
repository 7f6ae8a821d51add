"""How services start with missing or wrong settings, and how they stop."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from deploy.local.places import ROOT
from deploy.local.ports import HOST, Reservation
from deploy.local.programs.readiness import ask_ready
from deploy.local.programs.services import gateway_program
from shared.device.client import DeviceClient
from shared.device.handshake import Admitted, Credentials, Refused
from shared.device.identity import DeviceKey
from shared.device.profile import CLI, CLI_3
from tests.support.websocket.raw_socket import RawSocket
from tools.support.actors import Operator, SimulatedDevice, log_lines, pair
from tools.support.processes.processes import Processes
from tools.support.processes.stack import Stack
from tools.support.waiting import until, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import StartStack
    from tools.support.processes.service import ServiceProcess

SETTINGS_EXIT = 78
SECRET = "a secret value that must never be printed anywhere"
SECONDS = 30


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two approvals and two gateways, for the whole module."""
    return start_stack(approvals=2, gateways=2)


@pytest.fixture
def unstarted(tmp_path: Path) -> Iterator[Stack]:
    """One approval and one gateway, started by the test."""
    stack = Stack(tmp_path, approvals=1, gateways=1)
    yield stack
    stack.close()


async def get(url: str) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        return answer.status, await answer.json()


class TestStartWithoutRedis:
    async def test_without_redis_both_services_run_say_why_and_admit_nobody(
        self, unstarted: Stack
    ) -> None:
        (approval,), (gateway,) = unstarted.approvals, unstarted.gateways
        for service in unstarted.services:
            service.start()
        for service in unstarted.services:
            await service.until_not_ready()
            assert await get(f"{service.url}/livez") == (200, {"ok": True, "status": "live"})
        for service, name in ((approval, "store"), (approval, "bus"), (gateway, "redis")):
            await until(partial(tells, service.port, name), f"{name} is named")
            status, body = await get(f"{service.url}/readyz")
            assert status == 503
            assert name in body["failing"]
            assert "Connect" in body["dependencies"][name]["reason"]

        device = SimulatedDevice(unstarted)
        refused = await device.expect_refusal(gateway)
        assert refused.code == "UNAVAILABLE"
        assert refused.details["dependency"] == "redis"
        assert refused.close == (1013, "redis unavailable")
        async with Operator(unstarted, approval) as operator:
            assert (await operator.call("GET", "requests")).status == 503

        unstarted.redis.start()
        for service in unstarted.services:
            await service.until_ready()
        await pair(unstarted)

    async def test_without_approval_a_gateway_waits_for_one(self, unstarted: Stack) -> None:
        (approval,), (gateway,) = unstarted.approvals, unstarted.gateways
        unstarted.redis.start()
        gateway.start()
        await gateway.until_not_ready()
        refused = await SimulatedDevice(unstarted).expect_refusal(gateway)
        assert refused.close is not None
        assert refused.close.code == 1013
        approval.start()
        await gateway.until_ready()
        await pair(unstarted)


def tells(port: int, name: str) -> bool:
    """Return whether a service reports that it cannot connect to this dependency."""
    return any(f"{name}: Connect" in answer.reason for answer in ask_ready(port))


def run_service(service: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a service that must fail at startup, with only these settings."""
    return subprocess.run(
        [sys.executable, "-m", f"services.{service}"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **settings},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


class TestSettings:
    @pytest.mark.parametrize(
        ("service", "missing"),
        [
            ("gateway", ["REDIS_URL", "BUS_SECRET", "OPENCLAW_GATEWAY_TOKEN"]),
            ("approval", ["REDIS_URL", "BUS_SECRET", "APPROVAL_ADMIN_TOKEN", "TOKEN_SECRET"]),
        ],
    )
    def test_everything_missing_is_reported_at_once(self, service: str, missing: list[str]) -> None:
        ended = run_service(service)
        assert ended.returncode == SETTINGS_EXIT
        assert ended.stdout == ""
        output = ended.stderr.splitlines()
        assert output[0].endswith("cannot start:")
        assert [line.split()[0].rstrip(":") for line in output[1:]] == missing

    @pytest.mark.parametrize(
        ("service", "wrong"),
        [
            (
                "gateway",
                {
                    "REDIS_URL": f"http://user:{SECRET}@127.0.0.1",
                    "BUS_SECRET": f"{SECRET},short",
                    "OPENCLAW_GATEWAY_TOKEN": "tiny-token",
                    "PORT": "70000",
                    "OPS_PORT": "x",
                    "LOG_LEVEL": "loud",
                    "LOG_FORMAT": "xml",
                    "TRUSTED_PROXIES": "10.0.0.0/99",
                    "GATEWAY_ALLOWED_ORIGINS": "https://x.example/path",
                    "GATEWAY_CONNECTION_LIMIT": "0",
                    "GATEWAY_PREAUTH_LIMIT_PER_ADDRESS": "-1",
                    "GATEWAY_LOCAL_CLIENTS": "everybody",
                    "GATEWAY_PUBLIC_URL": "ftp://x",
                    "APPROVAL_PUBLIC_URL": "nowhere",
                },
            ),
            (
                "approval",
                {
                    "REDIS_URL": f"redis-sentinel://user:{SECRET}@127.0.0.1",
                    "BUS_SECRET": "tiny-secret",
                    "APPROVAL_ADMIN_TOKEN": f"tiny-token,{SECRET}",
                    "TOKEN_SECRET": "tiny-key",
                    "PORT": "port",
                    "LOG_LEVEL": "LOUD",
                    "TRUSTED_PROXIES": "everybody",
                    "PENDING_TTL_SECONDS": "0",
                    "PENDING_LIMIT": "many",
                    "PENDING_LIMIT_PER_ADDRESS": "1e9",
                },
            ),
        ],
    )
    def test_all_errors_are_reported_at_once_without_secrets(
        self, service: str, wrong: dict[str, str]
    ) -> None:
        ended = run_service(service, **wrong)
        assert ended.returncode == SETTINGS_EXIT
        for name in wrong:
            assert name in ended.stderr, name
        for secret in (SECRET, "tiny-token", "tiny-secret", "tiny-key", "short"):
            assert secret not in ended.stdout + ended.stderr

    def test_a_port_that_is_taken_is_named(self, stack: Stack) -> None:
        taken = stack.gateways[0].port
        ended = run_service(
            "gateway",
            REDIS_URL=stack.redis.gateway_url,
            BUS_SECRET=SECRET,
            OPENCLAW_GATEWAY_TOKEN=SECRET,
            HOST=HOST,
            PORT=str(taken),
        )
        assert ended.returncode == SETTINGS_EXIT
        assert f"port {taken}" in ended.stderr
        assert SECRET not in ended.stdout + ended.stderr


class TestShutdown:
    async def test_a_gateway_closes_with_1012_says_so_and_exits_0(self, stack: Stack) -> None:
        leaving, staying = stack.gateways
        four, three = await pair(stack, CLI), await pair(stack, CLI_3)
        async with AsyncExitStack() as sockets:
            inside = [(await device.stay_connected(leaving))[0] for device in (four, three) * 3]
            elsewhere, _ = await four.stay_connected(staying)
            waiting = four.client(leaving)
            for client in (*inside, elsewhere, waiting):
                sockets.push_async_callback(client.close)
            await waiting.challenge()
            leaving.terminate()
            closes = await asyncio.gather(
                *(client.closed(within=SECONDS) for client in (*inside, waiting))
            )
            assert closes == [(1012, "service restart")] * 7
            assert await leaving.until_ended() == 0
            assert log_lines(leaving, "gateway.stopped")
            assert (await elsewhere.call("health")).ok
            await four.connect_once(staying)
        leaving.start()
        await leaving.until_ready()
        await four.connect_once(leaving, with_gateway_token=False)

    async def test_a_gateway_does_not_wait_for_clients_that_never_answer(
        self, stack: Stack
    ) -> None:
        leaving = stack.gateways[0]
        async with await RawSocket.open(leaving.port) as raw:
            answer = await raw.connect(None, CLI, Credentials(token=stack.gateway_token))
            assert answer["ok"]
            leaving.terminate()
            assert await leaving.until_ended() == 0
            assert (await raw.receive_text())["event"] == "shutdown"
            assert await raw.closed() == (1012, "service restart")
        leaving.start()
        await leaving.until_ready()

    async def test_an_approval_exits_0_and_the_other_goes_on(self, stack: Stack) -> None:
        leaving, staying = stack.approvals
        device = await pair(stack)
        leaving.terminate()
        assert await leaving.until_ended() == 0
        assert log_lines(leaving, "approval.stopped")
        for gateway in stack.gateways:
            for _ in range(3):
                await device.connect_once(gateway)
        async with Operator(stack, staying) as operator:
            (
                await operator.approve(
                    await SimulatedDevice(stack).request_pairing(stack.gateways[0])
                )
            ).ok()
        leaving.start()
        await leaving.until_ready()

    async def test_approvals_that_restart_one_after_the_other_are_no_outage(
        self, stack: Stack
    ) -> None:
        device = await pair(stack)
        over = asyncio.Event()

        async def connect(gateway: ServiceProcess) -> list[Admitted | Refused]:
            seen = []
            while not over.is_set():
                async with device.client(gateway) as client:
                    seen.append(await client.connect())
            return seen

        connecting = [asyncio.create_task(connect(gateway)) for gateway in stack.gateways]
        for approval in stack.approvals:
            approval.terminate()
            assert await approval.until_ended() == 0
            approval.start()
            await approval.until_ready()
        over.set()
        for outcomes in await asyncio.gather(*connecting):
            assert len(outcomes) > 10
            assert all(isinstance(outcome, Admitted) for outcome in outcomes)


class TestSharedPort:
    async def test_two_gateways_on_one_port_both_get_connections(
        self, stack: Stack, tmp_path: Path
    ) -> None:
        with Reservation(shared=True) as shared, Processes() as processes:
            for name in ("one", "two"):
                program = gateway_program(
                    {"LOG_FORMAT": "json"},
                    stack._secrets,
                    name=name,
                    redis_url=stack.redis.gateway_url,
                    port=shared.port,
                    log=tmp_path / f"{name}.log",
                    shares_port=True,
                )
                processes.start(program)

            def boot_ids() -> set[str]:
                return {
                    answer.boot_id for answer in ask_ready(shared.port, at_once=8) if answer.ready
                }

            wait_until(lambda: len(boot_ids()) == 2, "both are ready and both answer")
            replicas: set[str] = set()
            url = f"ws://{HOST}:{shared.port}"

            async def connect() -> None:
                async with DeviceClient(
                    url, DeviceKey.generate(), token=stack.gateway_token
                ) as client:
                    outcome = await client.connect()
                    assert isinstance(outcome, Refused)
                    replicas.add(outcome.connection_id.partition(":")[0])

            async with asyncio.timeout(SECONDS):
                while len(replicas) < 2:
                    await asyncio.gather(*(connect() for _ in range(8)))
            processes.require_alive()
