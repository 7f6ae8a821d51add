"""Floods of plain HTTP: sessions, heartbeats, operators and health checks are not affected.

Many sockets of several addresses send pipelined requests, and never read a response.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

from tests.e2e.metrics import metric
from tests.support.stubs.upstream import stub_upstream
from tools.support.actors import Operator, log_lines, pair
from tools.support.waiting import WAIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from shared.device.client import DeviceClient
    from tests.conftest import StartStack
    from tests.support.stubs.upstream import StubUpstream
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack

LEASE_SECONDS: Final = 3
STALL_SECONDS: Final = 2
FLOOD_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 2.0
"""Limit for each answer while this machine also runs the flood."""
PROBE_SECONDS: Final = 0.1
DEVICES: Final = 3
MANY_ADDRESSES: Final = ("--addresses", "16", "--sockets", "40")
"""A gateway accepts 40 sockets of each address."""
FILE: Final = "/assets/app.js"
FILE_BYTES: Final = 300_000


@pytest.fixture(scope="module")
def upstream() -> Iterator[StubUpstream]:
    """One upstream."""
    with stub_upstream() as stub:
        yield stub


@pytest.fixture(scope="module")
def stack(
    upstream: StubUpstream, start_stack: StartStack, tmp_path_factory: pytest.TempPathFactory
) -> Stack:
    """One approval, a gateway with a dashboard and one with an upstream, and short deadlines."""
    # The upstream is the first fixture: it must outlive the gateways that connect to it.
    stack = start_stack(
        gateways=0,
        env={"HTTP_STALL_SECONDS": str(STALL_SECONDS)},
        gateway_env={"BEAT_SECONDS": "0.3", "LEASE_SECONDS": str(LEASE_SECONDS)},
    )
    ui = _dashboard(tmp_path_factory.mktemp("ui"))
    stack.add_gateway(CONTROL_UI_DIR=str(ui))
    stack.add_gateway(UPSTREAM_URL=upstream.url, UPSTREAM_SECRET="s" * 32)
    return stack


def _dashboard(directory: Path) -> Path:
    (directory / "assets").mkdir()
    (directory / "index.html").write_text("<!doctype html><title>Dashboard</title>")
    (directory / FILE.lstrip("/")).write_text("x" * FILE_BYTES)
    return directory


@dataclass
class Probe:
    """The answers to one kind of request, each on a connection of its own."""

    statuses: set[int] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)

    async def run(self, url: str, headers: dict[str, str] | None = None) -> None:
        """Ask again and again until cancelled."""
        timeout = aiohttp.ClientTimeout(total=30)
        while True:
            began = time.monotonic()
            async with (
                aiohttp.ClientSession(headers=headers, timeout=timeout) as session,
                session.get(url) as answer,
            ):
                await answer.read()
            self.statuses.add(answer.status)
            self.seconds.append(time.monotonic() - began)
            await asyncio.sleep(PROBE_SECONDS)


@dataclass
class Watched:
    """What happened during a flood."""

    sessions: list[DeviceClient]
    health: dict[str, Probe]
    others: dict[str, Probe]
    leases_lost_before: int

    def check(self, stack: Stack) -> None:
        """Check that nobody was affected."""
        assert [client.is_open for client in self.sessions] == [True] * len(self.sessions)
        assert leases_lost(stack) == self.leases_lost_before
        for name, probe in {**self.health, **self.others}.items():
            assert probe.statuses == {200}, name
            assert max(probe.seconds) < ANSWER_SECONDS, name


def leases_lost(stack: Stack) -> int:
    """Return how often a gateway lost its lease."""
    return sum(len(log_lines(gateway, "lease.lost")) for gateway in stack.gateways)


@asynccontextmanager
async def watching(stack: Stack, flooded: ServiceProcess, page: str = "") -> AsyncIterator[Watched]:
    """Hold sessions, check health, make an operator's calls and read a page of the service."""
    bearer = {"Authorization": f"Bearer {stack.admin_token}"}
    health = {"livez": Probe(), "readyz": Probe()}
    watched = Watched([], health, {"operator": Probe()}, leases_lost(stack))
    async with AsyncExitStack() as contexts:
        for _ in range(DEVICES):
            device = await pair(stack)
            client, _admitted = await device.stay_connected(stack.gateways[0])
            contexts.push_async_callback(client.close)
            watched.sessions.append(client)
        runs = [probe.run(f"{flooded.url}/{name}") for name, probe in watched.health.items()]
        operator = watched.others["operator"]
        runs.append(operator.run(f"{stack.approvals[0].url}/v1/devices", bearer))
        if page:
            watched.others["page"] = Probe()
            runs.append(watched.others["page"].run(flooded.url + page))
        tasks = [asyncio.create_task(run) for run in runs]
        try:
            yield watched
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in ended), ended
        watched.check(stack)


async def flood(service: ServiceProcess, *options: str) -> str:
    """Flood a service from another process, and return what that reports."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tools.support.plain_http_flood", str(service.port)),
        *("--seconds", str(FLOOD_SECONDS), *options),
        stdout=asyncio.subprocess.PIPE,
    )
    reported, _ = await process.communicate()
    assert process.returncode == 0
    return reported.decode()


class TestApproval:
    @pytest.mark.parametrize(
        "options",
        [
            ("--target", "/openapi.json"),
            ("--target", "/v1/devices"),
            ("--target", "/v1/requests/any/approve", "--body-bytes", "65536"),
        ],
        ids=["description", "unauthorized", "bodies"],
    )
    async def test_sessions_outlast_a_flood(self, stack: Stack, options: tuple[str, ...]) -> None:
        approval = stack.approvals[0]
        async with watching(stack, approval):
            await flood(approval, *options)

    async def test_bodies_that_do_not_arrive_are_dropped(self, stack: Stack) -> None:
        approval = stack.approvals[0]
        before = await dropped(approval, "body")
        async with watching(stack, approval):
            await flood(
                approval,
                *("--target", "/v1/session", "--body-bytes", "65536", "--withhold-body"),
                *("--bearer", stack.admin_token, "--sockets", "16"),
            )
        assert await dropped(approval, "body") > before

    async def test_an_operator_approves_during_a_flood(self, stack: Stack) -> None:
        approval = stack.approvals[0]
        async with Operator(stack, approval) as operator, watching(stack, approval):
            flooding = asyncio.create_task(flood(approval))
            device = await pair(stack)
            assert device.device_id in await operator.devices()
            await flooding


class TestGateway:
    @pytest.mark.parametrize("target", ["/metrics", "/", FILE])
    async def test_sessions_outlast_a_flood(self, stack: Stack, target: str) -> None:
        gateway = stack.gateways[0]
        async with watching(stack, gateway, target):
            await flood(gateway, *MANY_ADDRESSES, "--target", target)

    @pytest.mark.parametrize(
        "options", [(), ("--body-bytes", "65536", "--withhold-body")], ids=["requests", "bodies"]
    )
    async def test_a_flood_of_relayed_requests_ends_no_lease(
        self, stack: Stack, options: tuple[str, ...]
    ) -> None:
        gateway = stack.gateways[1]
        # Bodies that do not arrive keep the connections to the upstream until they stall.
        async with watching(stack, gateway, "" if options else "/chat"):
            await flood(gateway, *MANY_ADDRESSES, "--target", "/chat", *options)

    async def test_relayed_responses_that_are_never_read_are_aborted(self, stack: Stack) -> None:
        gateway = stack.gateways[1]
        before = await dropped(gateway, "unread")
        # Until they are aborted, they occupy the connections to the upstream.
        async with watching(stack, gateway):
            await flood(gateway, "--sockets", "8", "--target", "/endless")
        assert await dropped(gateway, "unread") > before


async def test_clients_that_never_read_are_dropped(stack: Stack) -> None:
    approval = stack.approvals[0]
    before = await dropped(approval, "unread")
    await flood(approval, "--sockets", "8")
    assert await dropped(approval, "unread") > before
    for state in ("in_progress", "waiting"):
        name = f'latchkey_approval_plain_requests{{state="{state}"}}'
        await until_metric(approval, name, at_most=1)  # the scrape itself


async def until_metric(service: ServiceProcess, name: str, *, at_most: float) -> None:
    """Wait until a metric is this low."""
    deadline = time.monotonic() + WAIT_SECONDS
    while (now := await metric(service, name)) > at_most:
        assert time.monotonic() < deadline, f"{name} is {now}"
        await asyncio.sleep(PROBE_SECONDS)


async def dropped(service: ServiceProcess, reason: str) -> float:
    """Return how many requests a service has dropped for a reason."""
    kind = service.name.partition("-")[0]
    return await metric(service, f'latchkey_{kind}_plain_dropped_total{{reason="{reason}"}}')
