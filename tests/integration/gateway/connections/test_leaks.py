"""After hundreds of connects that end in every possible way, nothing of them is left."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.gateway.connections.connection import Connection
from services.gateway.handshake.handshake import Handshake
from services.gateway.handshake.outcome import Session
from services.gateway.http.upgrade import UpgradeProtocol
from services.gateway.session.handler import SessionHandler
from services.gateway.websocket.protocol import SocketProtocol
from shared.device.handshake import Credentials
from shared.device.identity import DeviceKey
from shared.device.profile import CLI
from shared.protocol.limits import CLOSING_SECONDS, HANDSHAKE_DEADLINE_SECONDS
from shared.server.http_protocol import TrackedRequestHandler
from tests.integration.gateway.harness import TOKEN, GatewayHarness
from tests.integration.gateway.process import BUS_SECRET, GATEWAY_TOKEN, gateway_process
from tests.support.websocket.raw_socket import RSV1, RawSocket, frame_bytes
from tools.support.peers import FakeApproval, admit, want_pairing
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from services.gateway.connections.hub import Hub
    from shared.rpc.messages import Answer, AuthorizeDevice
    from tools.support.processes.redis import RedisServer

ROUNDS = 36
TRANSPORT = "TCPTransport"
"""uvloop's own type, which cannot be imported."""

KINDS = (
    UpgradeProtocol,
    Connection,
    Handshake,
    TrackedRequestHandler,
    Session,
    SocketProtocol,
    SessionHandler,
)


async def silent(raw: RawSocket, good: Credentials) -> None:
    await raw.challenge()


async def gone_at_once(raw: RawSocket, good: Credentials) -> None:
    raw.reset()


async def nonsense(raw: RawSocket, good: Credentials) -> None:
    await raw.challenge()
    await raw.send(b"nonsense")
    await raw.closed()


async def wrong_token(raw: RawSocket, good: Credentials) -> None:
    assert not (await raw.connect(None, CLI, Credentials(token="wrong")))["ok"]


async def too_big(raw: RawSocket, good: Credentials) -> None:
    await raw.challenge()
    await raw.send(b"x" * 65_537)
    await raw.closed()


async def flood(raw: RawSocket, good: Credentials) -> None:
    await raw.challenge()
    await raw.send_bytes(b"\x82\xff" + bytes(200_000))
    await raw.closed()


async def broken_before(raw: RawSocket, good: Credentials) -> None:
    await raw.challenge()
    await raw.send_bytes(frame_bytes(b"x", rsv=RSV1))
    await raw.closed()


async def closes_before(raw: RawSocket, good: Credentials) -> None:
    await raw.challenge()
    await raw.send_close()
    await raw.rest()


async def unpaired(raw: RawSocket, good: Credentials) -> None:
    answer = await raw.connect(DeviceKey.generate(), CLI.with_scopes("unpaired"), good)
    assert answer["error"]["code"] == "NOT_PAIRED"
    await raw.closed()


async def gone_meanwhile(raw: RawSocket, good: Credentials) -> None:
    await raw.challenge()
    await raw.send_json(raw.connect_frame(DeviceKey.generate(), CLI.with_scopes("late"), good))
    raw.reset()


async def admitted(raw: RawSocket, good: Credentials) -> None:
    assert (await raw.connect(DeviceKey.generate(), CLI, good))["ok"]


async def closes(raw: RawSocket, good: Credentials) -> None:
    await admitted(raw, good)
    await raw.send_close(1001)
    assert (await raw.closed()).code == 1001


async def resets(raw: RawSocket, good: Credentials) -> None:
    await admitted(raw, good)
    raw.reset()


async def hangs_up(raw: RawSocket, good: Credentials) -> None:
    await admitted(raw, good)
    await raw.send_json({"type": "req", "id": "1", "method": "health"})
    raw.hang_up()


async def broken(raw: RawSocket, good: Credentials) -> None:
    await admitted(raw, good)
    await raw.send_bytes(frame_bytes(b"x", rsv=RSV1))
    assert (await raw.closed()).code == 1002


WAYS: tuple[Callable[[RawSocket, Credentials], Awaitable[None]], ...] = (
    *(silent, gone_at_once, nonsense, wrong_token, too_big, flood, broken_before),
    *(closes_before, unpaired, gone_meanwhile, admitted, closes, resets, hangs_up, broken),
)
"""Every way in which a client may connect and leave; each leaves its socket as it is."""


async def by_scopes(question: AuthorizeDevice) -> Answer:
    """Answer according to the scopes of the request."""
    if "unpaired" in question.scopes:
        return await want_pairing(question)
    if "late" in question.scopes:
        await asyncio.sleep(0.01)
    return await admit(question)


def alive() -> Counter[str]:
    """Count the live objects of a gateway's connections."""
    gc.collect()
    return Counter(
        type(thing).__name__
        for thing in gc.get_objects()
        if isinstance(thing, KINDS) or type(thing).__name__ == TRANSPORT
    )


def entries(connections: Hub) -> dict[str, Any]:
    """Return every collection of the registry that is not empty."""
    found: dict[str, Any] = {
        "pings": [bucket for bucket in connections._pings if bucket],
        "ticks": [bucket for bucket in connections._ticks if bucket],
    }
    for part, names in (
        (connections, ("_all", "_closing", "_pending")),
        (connections.places, ("_by_address", "_by_device", "_taken")),
        (
            connections.places._deviceless,
            ("by_key", "_admitted", "_held", "_holders", "_most", "_within"),
        ),
        (connections._close_queue, ("_to_close", "_paused", "_scheduled")),
    ):
        found |= {name: getattr(part, name) for name in names}
    return {name: item for name, item in found.items() if item}


class TestInside:
    async def test_no_task_transport_or_entry_is_left(self) -> None:
        async with GatewayHarness() as harness:
            harness.approvals.answer = by_scopes
            await self._visit(harness, ROUNDS // 12)  # creates one-time objects
            await self._settle(harness)
            tasks, things = asyncio.all_tasks(), alive()
            await self._visit(harness, ROUNDS)
            await self._settle(harness)
            assert entries(harness.connections) == {}
            await until(lambda: asyncio.all_tasks() == tasks, "every task has ended")
            await until(lambda: alive() == things, "nothing is kept")

    async def _visit(self, harness: GatewayHarness, rounds: int) -> None:
        for turn in range(rounds):
            for number, way in enumerate(WAYS):
                raw = await harness.raw(source=f"127.0.{turn}.{2 + number}")
                await way(raw, Credentials(token=TOKEN))

    async def _settle(self, harness: GatewayHarness) -> None:
        await until(lambda: not harness.approvals.answering, "all are answered")
        await harness.pass_time(HANDSHAKE_DEADLINE_SECONDS)
        for connection in harness.open_connections:
            harness.connections.close(connection, 1012, "service restart")
        await harness.pass_time(CLOSING_SECONDS + 0.5)
        await harness.empty()
        await until(lambda: not harness.approvals.answering, "including those of closed clients")
        await harness.pass_time(CLOSING_SECONDS + 0.5)
        harness.protocols.clear()
        harness.approvals.asked.clear()
        for raw in harness._raws:
            raw.hang_up()
        harness._raws.clear()


class TestProcess:
    async def test_no_descriptor_is_left(self, tmp_path: Path, redis_server: RedisServer) -> None:
        with gateway_process(tmp_path, redis_server) as gateway:
            async with FakeApproval(redis_server.approval_url, BUS_SECRET) as approval:
                approval.answer = by_scopes
                await gateway.until_ready()
                before = descriptors(gateway.pid)
                for _ in range(8):
                    for number, way in enumerate(WAYS):
                        raw = await RawSocket.open(gateway.port, source=f"127.0.0.{2 + number}")
                        try:
                            await way(raw, Credentials(token=GATEWAY_TOKEN))
                        finally:
                            raw.hang_up()
                await until(lambda: descriptors(gateway.pid) <= before, "all sockets are closed")

                def outcomes() -> list[str]:
                    return [
                        line["outcome"] for line in gateway.logs() if line["event"] == "connection"
                    ]

                await until(lambda: len(outcomes()) == 8 * len(WAYS), "each has its line")
                assert {"admitted", "gone", "not-json", "pairing-required", "too-big"} <= set(
                    outcomes()
                )


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
