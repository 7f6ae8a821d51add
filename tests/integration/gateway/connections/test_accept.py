"""When file descriptors run out, accepting pauses, is reported, and resumes by itself."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from services.gateway.connections.places import ALL
from shared.device.handshake import Credentials
from shared.device.profile import CLI
from tests.integration.gateway.process import BUS_SECRET, GATEWAY_TOKEN, gateway_process
from tests.support.websocket.raw_socket import PING, PONG, RawSocket
from tools.support.peers import FakeApproval
from tools.support.waiting import until

if TYPE_CHECKING:
    from tools.support.processes.redis import RedisServer
    from tools.support.processes.service import ServiceProcess

DESCRIPTORS = 64
PAUSES = 3
BUSY_SHARE = 0.5
"""A loop that spins on the listening socket would use a full core."""


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def exhaustions(gateway: ServiceProcess) -> list[dict[str, Any]]:
    return [line for line in gateway.logs() if line["event"] == "descriptors.exhausted"]


def displaced(gateway: ServiceProcess) -> int:
    lines = [line for line in gateway.logs() if line["event"] == "connection"]
    return sum(line.get("reason") == ALL.displaced for line in lines)


class TestDescriptorsRunOut:
    async def test_it_pauses_counts_and_recovers_and_does_not_spin(
        self, tmp_path: Path, redis_server: RedisServer
    ) -> None:
        with ExitStack() as stack:
            gateway = stack.enter_context(
                gateway_process(
                    tmp_path,
                    redis_server,
                    descriptors=DESCRIPTORS,
                    GATEWAY_PREAUTH_LIMIT_PER_ADDRESS="1000",
                )
            )
            async with FakeApproval(redis_server.approval_url, BUS_SECRET):
                await gateway.until_ready()
                inside = await RawSocket.open(gateway.port)
                stack.callback(inside.hang_up)
                answer = await inside.connect(None, CLI, Credentials(token=GATEWAY_TOKEN))
                assert answer["ok"]

                crowd = [await RawSocket.tcp(gateway.port) for _ in range(DESCRIPTORS + 20)]
                for client in crowd:
                    stack.callback(client.hang_up)
                await until(lambda: exhaustions(gateway), "descriptors have run out")
                used, began = cpu_seconds(gateway.pid), time.monotonic()
                seen = len(exhaustions(gateway))
                await until(
                    lambda: len(exhaustions(gateway)) >= seen + PAUSES, "it retried repeatedly"
                )
                wall = time.monotonic() - began
                assert cpu_seconds(gateway.pid) - used < BUSY_SHARE * wall
                assert wall > (PAUSES - 1) * 0.9, "a pause is a second"

                await inside.send(b"still there?", PING)
                while (frame := await inside.receive()).opcode != PONG:
                    pass
                assert frame.payload == b"still there?"

                for client in crowd:
                    client.hang_up()
                await gateway.until_ready()
                async with (
                    aiohttp.ClientSession() as http,
                    http.get(f"{gateway.url}/metrics") as metrics,
                ):
                    text = await metrics.text()
                lines = exhaustions(gateway)
                assert f"latchkey_gateway_descriptors_exhausted_total {len(lines)}.0" in text
                assert {line["descriptors"] for line in lines} == {DESCRIPTORS}

    async def test_a_relayed_connection_needs_two_descriptors(
        self, tmp_path: Path, redis_server: RedisServer
    ) -> None:
        upstream = {"UPSTREAM_URL": "ws://127.0.0.1:1", "UPSTREAM_SECRET": BUS_SECRET}
        with gateway_process(tmp_path, redis_server, descriptors=300, **upstream) as gateway:
            await until(
                lambda: any(
                    "GATEWAY_CONNECTION_LIMIT=20000 is lowered to 22" in line.get("advice", "")
                    for line in gateway.logs()
                ),
                "the limit is lowered",
            )

    async def test_the_connection_limit_is_kept_below_the_descriptors(
        self, tmp_path: Path, redis_server: RedisServer
    ) -> None:
        with gateway_process(tmp_path, redis_server, descriptors=300) as gateway:
            async with FakeApproval(redis_server.approval_url, BUS_SECRET):
                await gateway.until_ready()
                (advice,) = [
                    line["advice"] for line in gateway.logs() if line["event"] == "setting.advice"
                ]
                assert "GATEWAY_CONNECTION_LIMIT=20000 is lowered to 44" in advice
                with ExitStack() as stack:
                    statuses = []
                    for number in range(46):
                        raw = await RawSocket.open(
                            gateway.port, source=f"127.0.0.{2 + number // 20}"
                        )
                        stack.callback(raw.hang_up)
                        statuses.append(raw.status)
                    assert statuses == [101] * 46
                    await until(lambda: displaced(gateway) == 2, "the two oldest gave way")
