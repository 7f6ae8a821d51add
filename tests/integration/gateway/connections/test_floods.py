"""Floods against a gateway process: memory stays flat, and no Redis command results."""

from __future__ import annotations

import asyncio
import contextlib
import json
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import redis as redis_py

from shared.device.handshake import Credentials, encode
from shared.device.identity import DeviceKey
from shared.device.profile import CLI, CONTROL_UI
from shared.protocol.closing import CloseCode
from shared.protocol.limits import FRAME_LIMIT_BYTES, OWN_FRAME_LIMIT_BYTES
from shared.rpc.messages import SHARED_SECRET
from tests.integration.gateway.process import BUS_SECRET, GATEWAY_TOKEN, gateway_process
from tests.support.websocket.raw_socket import (
    BINARY,
    CONTINUATION,
    PING,
    RSV1,
    Gone,
    RawSocket,
    frame_bytes,
)
from tools.support.peers import FakeApproval
from tools.support.processes.process_table import peak_memory_bytes
from tools.support.waiting import POLL_SECONDS, WAIT_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from tools.support.processes.redis import RedisServer
    from tools.support.processes.service import ServiceProcess

pytestmark = pytest.mark.xdist_group("gateway floods")

GOOD = Credentials(token=GATEWAY_TOKEN)
MEGABYTE = 1_000_000
SENDERS = 24
SENT_BYTES = 12 * MEGABYTE
"""The bytes from each sender of a flood; stored, they would be 288 MB."""
MORE_MEMORY_BYTES = 64 * MEGABYTE
MEMORY_LIMIT_BYTES = 134_217_728
LARGEST_FRAMES = 60
CROWD = 100
CROWD_MEMORY_BYTES = 200 * MEGABYTE


async def large_frames(raw: RawSocket) -> None:
    """Send as many requests of the largest size without a device, and read the answers."""
    for _ in range(60):
        await raw.send(b'{"type":"req","id":"1","method":"health","x":"%s"}' % (b"x" * 65_000))
        while (await raw.receive_text())["type"] == "event":
            pass


async def slow_readers(raw: RawSocket) -> None:
    """Request half a megabyte and read nothing."""
    for _ in range(5):
        await raw.send(b'{"type":"req","id":"%s","method":"health"}' % (b"x" * 100_000))


async def fragments(raw: RawSocket) -> None:
    """Send an endless message in one-byte fragments."""
    await raw.send_bytes(frame_bytes(b"{", fin=False))
    await raw.send_bytes(frame_bytes(b" ", CONTINUATION, fin=False) * 20_000)


async def pings(raw: RawSocket) -> None:
    """Send as many pings, and read no pongs."""
    await raw.send_bytes(frame_bytes(b"x" * 100, PING) * 5_000)


async def unfinished_frames(raw: RawSocket) -> None:
    """Send the beginning of a frame of 25 MiB, which is too large for a client without a device."""
    await raw.send_bytes(frame_bytes(b"", announce=FRAME_LIMIT_BYTES))
    with contextlib.suppress(Gone):
        for _ in range(3):
            await raw.send_bytes(b"x" * MEGABYTE)
    assert await last_close(raw) == CloseCode.TOO_BIG


FLOODS: dict[str, Callable[[RawSocket], Awaitable[None]]] = {
    "large frames": large_frames,
    "slow readers": slow_readers,
    "fragments": fragments,
    "pings": pings,
    "unfinished frames": unfinished_frames,
}


@pytest.fixture(scope="module")
def process(
    tmp_path_factory: pytest.TempPathFactory, redis_process: RedisServer
) -> Iterator[ServiceProcess]:
    """One gateway for the whole module."""
    redis_process.make_empty()
    with gateway_process(
        tmp_path_factory.mktemp("gateway"),
        redis_process,
        GATEWAY_PREAUTH_LIMIT_PER_ADDRESS=str(2 * CROWD),  # no client has a device
    ) as process:
        yield process


@pytest.fixture
async def gateway(
    process: ServiceProcess, redis_process: RedisServer
) -> AsyncIterator[tuple[ServiceProcess, FakeApproval]]:
    """Return the gateway with an approval that runs during the test."""
    async with FakeApproval(redis_process.approval_url, BUS_SECRET) as approval:
        await process.until_ready()
        await alone(process)
        yield process, approval


async def alone(gateway: ServiceProcess) -> None:
    """Wait until a gateway no longer asks the previous test's approval."""
    async with aiohttp.ClientSession() as http, asyncio.timeout(WAIT_SECONDS):
        while True:
            async with http.get(f"{gateway.url}/readyz") as answer:
                body = await answer.json()
            if body["dependencies"]["approval"]["reason"] == "1 live":
                return
            await asyncio.sleep(POLL_SECONDS)


def published(redis: RedisServer) -> int:
    """Return how many messages have been published."""
    with redis_py.Redis.from_url(redis.admin_url) as client:
        stats: dict[str, Any] = client.info("commandstats")
    return int(stats.get("cmdstat_publish", {}).get("calls", 0))


async def beyond_routine(redis: RedisServer, approval: FakeApproval) -> int:
    """Return how many messages besides heartbeats were published."""
    seen: tuple[int, int] | None = None
    while (now := (published(redis), approval.routine)) != seen:
        seen = now
        await asyncio.sleep(10 * POLL_SECONDS)
    return now[0] - now[1]


class TestMemory:
    @pytest.mark.parametrize(
        "kind", ["one huge frame", "huge after the limit", "endless fragments"]
    )
    async def test_memory_stays_flat_whatever_unauthenticated_clients_send(
        self, gateway: tuple[ServiceProcess, FakeApproval], kind: str
    ) -> None:
        service, _ = gateway
        before = peak_memory_bytes(service.pid)
        head = {
            "one huge frame": frame_bytes(b"", announce=SENT_BYTES),
            "huge after the limit": frame_bytes(b"", announce=26_214_401),
            "endless fragments": frame_bytes(b"{", fin=False),
        }[kind]
        piece = b"x" * MEGABYTE
        if kind == "endless fragments":
            piece = frame_bytes(b"x" * 60_000, 0, fin=False) * 17

        async def flood() -> None:
            async with await RawSocket.open(service.port) as raw:
                await raw.challenge()
                await raw.send_bytes(head)
                with contextlib.suppress(Gone):
                    for _ in range(SENT_BYTES // len(piece)):
                        await raw.send_bytes(piece)
                assert (await raw.closed()).code in {1002, 1009}

        await asyncio.gather(*(flood() for _ in range(SENDERS)))
        assert peak_memory_bytes(service.pid) - before < MORE_MEMORY_BYTES
        assert (await asyncio.to_thread(service.ready_answer)) is not None

    async def test_memory_for_unread_answers_is_bounded(
        self, gateway: tuple[ServiceProcess, FakeApproval]
    ) -> None:
        """A client that reads no answers is not read from either."""
        service, _ = gateway
        before = peak_memory_bytes(service.pid)
        request = b'{"type":"req","id":"%s","method":"health"}' % (b"x" * MEGABYTE)
        async with await RawSocket.open(service.port, receive_buffer=4096) as raw:
            answer = await raw.connect(DeviceKey.generate(), CLI, GOOD)
            assert answer["ok"]
            sending = asyncio.create_task(raw.send_bytes(frame_bytes(request) * 60))
            await at_least(service, "latchkey_gateway_held_bytes", 500_000)
            assert not sending.done()
            sending.cancel()
        assert peak_memory_bytes(service.pid) - before < 20 * MEGABYTE

    async def test_memory_stays_flat_for_consecutive_largest_frames(
        self, gateway: tuple[ServiceProcess, FakeApproval]
    ) -> None:
        service, _ = gateway
        padding = OWN_FRAME_LIMIT_BYTES - len(b'{"type":"req","id":"1","method":"health","x":""}')
        request = b'{"type":"req","id":"1","method":"health","x":"%s"}' % (b"x" * padding)
        highest = []
        for _ in range(2):
            async with await RawSocket.open(service.port) as raw:
                assert (await raw.connect(DeviceKey.generate(), CLI, GOOD))["ok"]
                for _ in range(LARGEST_FRAMES // 2):
                    await raw.send(request)
                    while (await raw.receive_text())["type"] == "event":
                        pass
            highest.append(peak_memory_bytes(service.pid))
        assert highest[1] - highest[0] < OWN_FRAME_LIMIT_BYTES, "nothing of them stays"

    async def test_incomplete_messages_of_a_crowd_stay_within_the_limit(
        self, gateway: tuple[ServiceProcess, FakeApproval]
    ) -> None:
        """200 devices hold nearly 200 MB; those that hold the most are closed."""
        service, _ = gateway
        before = peak_memory_bytes(service.pid)
        async with contextlib.AsyncExitStack() as sockets:
            crowd = []
            for _ in range(2 * CROWD):
                raw = await RawSocket.open(service.port)
                await sockets.enter_async_context(raw)
                assert (await raw.connect(DeviceKey.generate(), CLI, GOOD))["ok"]
                crowd.append(raw)
            for raw in crowd:
                await raw.send_bytes(frame_bytes(b"x" * MEGABYTE, announce=OWN_FRAME_LIMIT_BYTES))
            await at_least(service, "latchkey_gateway_held_bytes", 64 * 1_048_576)
            await at_least(service, 'latchkey_gateway_shed_total{reason="memory"}', 1)
            assert await metric(service, "latchkey_gateway_held_bytes") <= MEMORY_LIMIT_BYTES
        assert peak_memory_bytes(service.pid) - before < 2 * MEMORY_LIMIT_BYTES


async def metric(service: ServiceProcess, name: str) -> float:
    """Return the value of a metric, by name and labels."""
    async with aiohttp.ClientSession() as http, http.get(f"{service.url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(name)))


async def at_least(service: ServiceProcess, name: str, least: float) -> None:
    """Wait until a metric has at least this value."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            if await metric(service, name) >= least:
                return
            await asyncio.sleep(POLL_SECONDS)


class TestCrowd:
    """A hundred admitted clients; the memory for their queues stays far below the limit."""

    @pytest.mark.parametrize("kind", FLOODS)
    async def test_memory_is_bounded_for_a_hundred_simultaneous_clients(
        self, gateway: tuple[ServiceProcess, FakeApproval], kind: str
    ) -> None:
        service, _ = gateway
        async with contextlib.AsyncExitStack() as sockets:
            crowd = []
            for _ in range(CROWD):
                raw = await RawSocket.open(service.port, receive_buffer=4096)
                await sockets.enter_async_context(raw)
                assert (await raw.connect(None, CLI, GOOD))["ok"]
                crowd.append(raw)
            before = peak_memory_bytes(service.pid)
            await asyncio.gather(*(FLOODS[kind](raw) for raw in crowd))
            async with await RawSocket.open(service.port) as another:
                assert (await another.connect(None, CLI, GOOD))["ok"], "it serves others meanwhile"
            assert peak_memory_bytes(service.pid) - before < CROWD_MEMORY_BYTES

    async def test_frames_with_unnegotiated_compression_are_refused(
        self, gateway: tuple[ServiceProcess, FakeApproval]
    ) -> None:
        """The payload would inflate to 10 MB, and is not processed."""
        service, _ = gateway
        bomb = zlib.compress(b" " * 10 * MEGABYTE, wbits=-15)
        for _ in range(CROWD // 10):
            async with await RawSocket.open(service.port) as raw:
                assert (await raw.connect(None, CLI, GOOD))["ok"]
                await raw.send(bomb, rsv=RSV1)
                assert (await raw.closed()).code == 1002


class TestBusTraffic:
    async def test_invalid_frames_cause_no_redis_commands(
        self, gateway: tuple[ServiceProcess, FakeApproval], redis_process: RedisServer
    ) -> None:
        service, approval = gateway
        others = await beyond_routine(redis_process, approval)
        for _ in range(5):
            for name, payload, opcode in NONSENSE:
                async with await RawSocket.open(service.port) as raw:
                    await raw.challenge()
                    await raw.send(payload, opcode)
                    closed = await last_close(raw)
                    assert closed in {1000, 1002, 1008, 1009}, name
        for key, profile, credentials, origin in (*REFUSED, *COUNTED):
            headers = [("Origin", origin)] if origin else []
            async with await RawSocket.open(service.port, headers=headers) as raw:
                answer = await raw.connect(key, profile, credentials)
                assert not answer["ok"]
                assert (await raw.closed()).code in {1002, 1008}
        for altered in ALTERED:
            async with await RawSocket.open(service.port) as raw:
                await raw.challenge()
                frame = raw.connect_frame(DeviceKey.generate(), CLI, GOOD)
                frame["params"] = altered(frame["params"])
                await raw.send(encode(frame).encode())
                assert not (await raw.receive_text())["ok"]
        for _ in range(30):
            async with await RawSocket.open(service.port) as raw:
                await raw.challenge()
        async with await RawSocket.open(service.port) as raw:
            assert (await raw.connect(None, CLI, GOOD))["ok"], "the gateway works"
        offered = [(*report.classes, report.right) for report in approval.reports]
        assert offered == [
            (SHARED_SECRET, False),
            (SHARED_SECRET, False),
            (SHARED_SECRET, False),
            (SHARED_SECRET, True),
        ]
        assert approval.asked == []
        assert approval.messages == len(offered), "only secrets are counted"
        await until(
            lambda: published(redis_process) - approval.routine - 2 * approval.messages == others,
            "nothing else was published",
        )

        async with await RawSocket.open(service.port) as raw:
            assert (await raw.connect(DeviceKey.generate(), CLI, GOOD))["ok"]
        assert approval.messages == len(offered) + 1, "a valid connect is forwarded"
        assert len(approval.asked) == 1


async def last_close(raw: RawSocket) -> int:
    """Return the close code, skipping earlier frames."""
    while (frame := await raw.receive()).opcode != 8:
        pass
    return frame.close.code


def request(**fields: object) -> bytes:
    return json.dumps({"type": "req", "id": "1", "method": "connect", **fields}).encode()


NONSENSE = [
    ("empty", b"", 1),
    ("no JSON", b"hello", 1),
    ("not UTF-8", b"\xff\xfe\xfd", 1),
    ("deep", b"[" * 30_000 + b"]" * 30_000, 1),
    ("array", b"[]", 1),
    ("null", b"null", 1),
    ("event", b'{"type":"event","event":"connect.challenge"}', 1),
    ("no id", b'{"type":"req","method":"connect"}', 1),
    ("another method", b'{"type":"req","id":"1","method":"health"}', 1),
    ("no params", request(), 1),
    ("empty params", request(params={}), 1),
    ("params of another kind", request(params=[1, 2, 3]), 1),
    ("prototype", request(params={"__proto__": {"role": "operator"}}), 1),
    ("huge number", request().replace(b'"1"', b"1e999"), 1),
    ("binary", request(params={}), BINARY),
    ("too big", b"x" * 65_537, 1),
]

REFUSED = [
    (None, CLI, Credentials(), ""),
    (DeviceKey.generate(), CLI, Credentials(), ""),
    (DeviceKey.generate(), CONTROL_UI, GOOD, ""),
    (DeviceKey.generate(), CONTROL_UI, GOOD, "https://evil.example"),
    (DeviceKey.generate(), replace(CLI, min_protocol=5, max_protocol=9), GOOD, ""),
    (DeviceKey.generate(), replace(CLI, role="root"), GOOD, ""),
    (DeviceKey.generate(), replace(CLI, client_id="nobody"), GOOD, ""),
]

COUNTED = [
    (None, CLI, Credentials(token="wrong"), ""),
    (None, CLI, Credentials(password="wrong"), ""),
    (DeviceKey.generate(), CLI, Credentials(password="wrong"), ""),
]
"""Refused too, but approval counts the wrong secret first."""

ALTERED: list[Callable[[Any], Any]] = [
    lambda params: {**params, "role": "node"},
    lambda params: {**params, "scopes": ["operator.admin"]},
    lambda params: {**params, "client": {**params["client"], "platform": "other"}},
    lambda params: {**params, "auth": {"token": GATEWAY_TOKEN, "deviceToken": "x"}, "scopes": []},
    lambda params: {**params, "device": {**params["device"], "nonce": " "}},
    lambda params: {**params, "device": {**params["device"], "nonce": "another"}},
    lambda params: {**params, "device": {**params["device"], "signedAt": 1}},
    lambda params: {**params, "device": {**params["device"], "id": "0" * 64}},
    lambda params: {**params, "device": {**params["device"], "signature": "AAAA"}},
    lambda params: {**params, "device": {**params["device"], "publicKey": "AAAA"}},
]
