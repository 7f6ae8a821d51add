"""What HTTP and RFC 6455 require of a server, at every port of real processes.

Each request gets one answer, which names no other software and echoes nothing, and causes at most
one short log line.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import pytest

from deploy.local.ports import Reservation
from shared.server.strict_http import SERVER_NAME
from tests.integration.gateway.process import gateway_process
from tests.support.http.exchange import exchange
from tests.support.http.plain_http import ask
from tests.support.http.rows import REQUESTS, SECRET, UPGRADES, Row, get, upgrade
from tests.support.websocket.raw_socket import RawSocket
from tools.support.metrics import metric
from tools.support.waiting import POLL_SECONDS, WAIT_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import StartStack
    from tools.support.processes.redis import RedisServer
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack

LINE_MAX_CHARACTERS = 300
PORTS = ["gateway", "approval", "gateway ops"]


class Target(NamedTuple):
    """A port, and the process that logs its requests."""

    port: int
    service: ServiceProcess


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """One approval and one gateway, for the whole module."""
    return start_stack(approvals=1, gateways=1)


@pytest.fixture(scope="module")
def targets(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Target]]:
    """Return every kind of port."""
    (approval,), (gateway,) = stack.approvals, stack.gateways
    directory: Path = tmp_path_factory.mktemp("ops")
    redis: RedisServer = stack.redis
    with (
        Reservation() as ops,
        gateway_process(directory, redis, OPS_PORT=str(ops.port)) as with_ops,
    ):
        wait_until(lambda: with_ops.ready_answer() is not None, "the gateway with an ops port")
        yield {
            "gateway": Target(gateway.port, gateway),
            "approval": Target(approval.port, approval),
            "gateway ops": Target(ops.port, with_ops),
        }


@contextmanager
def at_most_one_short_line(service: ServiceProcess) -> Iterator[None]:
    """Check that the process logs at most one short line meanwhile."""
    before = len(service.log_text())
    yield
    answer = service.ready_answer()  # one loop iteration later everything is written
    assert answer is not None
    lines = service.log_text()[before:].splitlines()
    assert len(lines) <= 1, lines
    assert all(len(line) <= LINE_MAX_CHARACTERS for line in lines), lines
    assert SECRET.decode() not in "".join(lines)


class TestRequests:
    @pytest.mark.parametrize("port", PORTS)
    @pytest.mark.parametrize("row", REQUESTS, ids=lambda row: row.name)
    async def test_requests_are_answered_as_in_the_rfc(
        self, targets: dict[str, Target], port: str, row: Row
    ) -> None:
        target = targets[port]
        with at_most_one_short_line(target.service):
            (reply,) = await exchange(target.port, row.sent)
        assert reply.status == row.status
        assert reply.headers["server"] == SERVER_NAME
        assert SECRET not in reply.body
        assert "aiohttp" not in f"{reply.headers}{reply.body!r}"

    @pytest.mark.parametrize("port", PORTS)
    async def test_the_process_serves_on(self, targets: dict[str, Target], port: str) -> None:
        (reply,) = await exchange(targets[port].port, get())
        assert reply.status == 200


class TestUpgrades:
    @pytest.mark.parametrize("row", UPGRADES, ids=lambda row: row.name)
    async def test_upgrades_are_answered_as_in_the_rfc(
        self, targets: dict[str, Target], row: Row
    ) -> None:
        target = targets["gateway"]
        with at_most_one_short_line(target.service):
            replies = await exchange(target.port, row.sent)
        assert [reply.status for reply in replies] == [row.status]
        assert replies[0].headers.get("server", SERVER_NAME) == SERVER_NAME
        if row.status == 426:
            assert replies[0].headers["sec-websocket-version"] == "13"
            assert replies[0].headers["upgrade"] == "websocket"

    @pytest.mark.parametrize("row", UPGRADES, ids=lambda row: row.name)
    async def test_a_connection_that_was_used_before_gets_the_same_answer(
        self, targets: dict[str, Target], row: Row
    ) -> None:
        target = targets["gateway"]
        first = b"GET /livez HTTP/1.1\r\nHost: gateway.example\r\n\r\n"
        async with await RawSocket.tcp(target.port) as raw:
            await raw.send_bytes(first)
            await raw.upgraded()
            assert raw.status == 200
            raw._buffer.clear()
            with at_most_one_short_line(target.service):
                await raw.send_bytes(row.sent)
                await raw.upgraded(with_body=False)
                raw.hang_up()
        assert raw.status == row.status

    async def test_a_body_need_not_be_there_to_be_refused(self, targets: dict[str, Target]) -> None:
        async with await RawSocket.tcp(targets["gateway"].port) as raw:
            await raw.send_bytes(upgrade(b"Content-Length: 5\r\n"))
            await raw.upgraded()
            assert (raw.status, raw.headers["connection"]) == (400, "close")
            assert b"body" in raw.body

    async def test_a_body_may_not_smuggle_a_request(self, targets: dict[str, Target]) -> None:
        """What follows a refused upgrade with a body is not served as a request."""
        sent = upgrade(b"Content-Length: 5\r\n", body=b"hello" + get(b"/readyz"))
        replies = await exchange(targets["gateway"].port, sent)
        assert [reply.status for reply in replies] == [400]

    async def test_nothing_is_left_of_refused_clients(self, targets: dict[str, Target]) -> None:
        target = targets["gateway"]
        for row in UPGRADES:
            await exchange(target.port, row.sent)

        async def waiting() -> float | None:
            text = (await ask(target.port, "/metrics")).body.decode()
            return metric(text, 'latchkey_gateway_connections{state="waiting"}')

        async with asyncio.timeout(WAIT_SECONDS):
            while await waiting():  # noqa: ASYNC110 (it is another process that changes)
                await asyncio.sleep(POLL_SECONDS)
        async with await RawSocket.open(target.port) as raw:
            assert raw.status == 101
            await raw.challenge()
            assert await waiting() == 1


class TestServerHeader:
    @pytest.mark.parametrize("port", PORTS)
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/"),
            ("GET", "/livez"),
            ("HEAD", "/livez"),
            ("GET", "/readyz"),
            ("GET", "/metrics"),
            ("GET", "/nothing"),
            ("POST", "/livez"),
            ("GET", "/v1/devices"),
            ("GET", "/setup"),
            ("OPTIONS", "*"),
        ],
    )
    async def test_every_answer_names_us_without_a_version(
        self, targets: dict[str, Target], port: str, method: str, path: str
    ) -> None:
        reply = await ask(targets[port].port, path, method)
        assert reply.headers["server"] == SERVER_NAME

    async def test_streams_conform_as_well(self, stack: Stack) -> None:
        headers: dict[str, Any] = {"Authorization": f"Bearer {stack.admin_token}"}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.get(f"{stack.approvals[0].url}/v1/events") as answer,
        ):
            assert answer.status == 200
            assert answer.headers["Server"] == SERVER_NAME
