"""Decisions that a change overtook, and replayed messages."""

from __future__ import annotations

import asyncio
import contextlib
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import pytest
from redis.asyncio import Redis

from shared.bus.channels import EVENTS, inbox_channel
from shared.bus.envelope import Envelope
from shared.bus.errors import Rejected
from shared.device.handshake import Credentials, encode
from shared.device.identity import DeviceKey
from shared.device.profile import CLI
from shared.rpc.messages import Admitted, Denied
from shared.rpc.messages import encode as encode_news
from tests.integration.gateway.process import BUS_SECRET, GATEWAY_TOKEN, gateway_process
from tests.support.websocket.raw_socket import RawSocket
from tools.support.peers import FakeApproval, want_pairing
from tools.support.waiting import POLL_SECONDS, WAIT_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from shared.rpc.messages import Answer, AuthorizeDevice
    from tools.support.processes.redis import RedisServer
    from tools.support.processes.service import ServiceProcess

GOOD = Credentials(token=GATEWAY_TOKEN)
SELDOM = "20"
"""So long that only heartbeats requested at once occur within a test."""


@pytest.fixture
def gateway(tmp_path: Path, redis_server: RedisServer) -> Iterator[ServiceProcess]:
    """Return a gateway with rare regular heartbeats."""
    with gateway_process(
        tmp_path, redis_server, BEAT_SECONDS=SELDOM, LEASE_SECONDS="600"
    ) as process:
        yield process


@pytest.fixture
async def approval(
    gateway: ServiceProcess, redis_server: RedisServer
) -> AsyncIterator[FakeApproval]:
    async with FakeApproval(redis_server.approval_url, BUS_SECRET) as approval:
        await gateway.until_ready()
        yield approval


class Overtaken:
    """Decides at once and answers on demand; later requests are denied."""

    def __init__(self, approval: FakeApproval) -> None:
        self._approval = approval
        self.answered = asyncio.Event()
        approval.answer = self

    async def __call__(self, question: AuthorizeDevice) -> Answer:
        if len(self._approval.asked) > 1:
            return Denied(self._approval.head, "device-token-mismatch")
        decided_at = self._approval.head
        await self.answered.wait()
        return Admitted(decided_at, "a device token", [], 1)


@asynccontextmanager
async def connecting(gateway: ServiceProcess, key: DeviceKey) -> AsyncIterator[RawSocket]:
    """Yield a socket that has sent its `connect`."""
    async with await RawSocket.open(gateway.port) as raw:
        await raw.challenge()
        await raw.send(encode(raw.connect_frame(key, CLI, GOOD)).encode())
        yield raw


def at_head(approval: FakeApproval) -> Any:
    """Admit every client, decided at the newest change."""

    async def answer(_question: AuthorizeDevice) -> Answer:
        return Admitted(approval.head, "a device token", [], 1)

    return answer


async def bus_events(gateway: ServiceProcess, event: str) -> float:
    """Return a count of the gateway's bus events."""
    async with aiohttp.ClientSession() as http, http.get(f"{gateway.url}/metrics") as answer:
        name = re.escape(f'latchkey_gateway_bus_total{{event="{event}"}}')
        found = re.search(rf"(?m)^{name} (.+)$", await answer.text())
    return float(found[1]) if found else 0.0


class TestDecisionsThatAChangeOvertakes:
    async def test_an_admission_delivered_after_a_revoke_is_asked_again(
        self, gateway: ServiceProcess, approval: FakeApproval
    ) -> None:
        key = DeviceKey.generate()
        overtaken = Overtaken(approval)
        async with connecting(gateway, key) as raw:
            await until(lambda: approval.asked, "approval has decided")
            await approval.change(key.device_id)
            overtaken.answered.set()
            answer = await raw.receive_text()
        assert answer["error"]["details"]["code"] == "AUTH_TOKEN_MISMATCH"
        first, again = approval.asked
        assert again.call_id != first.call_id, "another question, not a retry of the first"

    async def test_a_change_of_another_device_does_not_delay_it(
        self, gateway: ServiceProcess, approval: FakeApproval
    ) -> None:
        overtaken = Overtaken(approval)
        async with connecting(gateway, DeviceKey.generate()) as raw:
            await until(lambda: approval.asked, "approval has decided")
            await approval.change("another device")
            overtaken.answered.set()
            assert (await raw.receive_text())["ok"]
        assert len(approval.asked) == 1

    async def test_an_answer_reveals_a_lost_event(
        self, gateway: ServiceProcess, approval: FakeApproval
    ) -> None:
        """A decision at an unknown change waits for the next heartbeat, which comes soon."""
        key = DeviceKey.generate()
        await approval.change(key.device_id, tell=False)
        approval.answer = at_head(approval)
        beats = len(approval.beats)
        async with connecting(gateway, key) as raw:
            assert (await raw.receive_text())["ok"]
        assert len(approval.beats) > beats

    async def test_a_device_admitted_before_a_lost_revoke_is_closed_at_the_next_heartbeat(
        self, gateway: ServiceProcess, approval: FakeApproval
    ) -> None:
        key = DeviceKey.generate()
        approval.answer = at_head(approval)
        async with connecting(gateway, key) as raw:
            assert (await raw.receive_text())["ok"]
            await approval.change(key.device_id, tell=False)
            await approval.change("another device")
            assert await raw.closed() == (4001, "device removed")


class Listener:
    """Records all sealed messages in Redis, and can replay them.

    `bodies` are the opened contents.
    """

    def __init__(self, redis: RedisServer, *channels: str) -> None:
        self._client: Any = Redis.from_url(redis.admin_url)
        self._pubsub: Any = self._client.pubsub()
        self._channels = channels
        self._envelope = Envelope((BUS_SECRET,), "listener")
        self.heard: list[tuple[str, bytes]] = []
        self.bodies: list[bytes] = []

    async def __aenter__(self) -> Self:
        await self._pubsub.subscribe(*self._channels)
        for _ in self._channels:
            confirmed = await self._pubsub.get_message(timeout=WAIT_SECONDS)
            assert confirmed["type"] == "subscribe", confirmed
        self._task = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._pubsub.aclose()
        await self._client.aclose()

    async def repeat(self) -> int:
        """Replay everything recorded so far; returns the number of messages."""
        messages = list(self.heard)
        for channel, data in messages:
            await self._client.publish(channel, data)
        return len(messages)

    async def _listen(self) -> None:
        async for message in self._pubsub.listen():
            channel, data = message["channel"].decode(), message["data"]
            self.heard.append((channel, data))
            with contextlib.suppress(Rejected):  # its own replays
                self.bodies.append(self._envelope.open(channel, data).body)


class TestReplayedMessages:
    async def test_replayed_decisions_admit_nobody(
        self, gateway: ServiceProcess, approval: FakeApproval, redis_server: RedisServer
    ) -> None:
        key = DeviceKey.generate()
        approval.answer = at_head(approval)
        inbox = inbox_channel(gateway.boot_id)
        async with Listener(redis_server, inbox) as listener:
            async with connecting(gateway, key) as raw:
                assert (await raw.receive_text())["ok"]
            await until(lambda: listener.heard, "the decision arrived")
            before = await bus_events(gateway, "rejected-replayed")
            approval.answer = want_pairing
            async with connecting(gateway, key) as raw:
                repeated = await listener.repeat()
                answer = await raw.receive_text()
            assert answer["error"]["code"] == "NOT_PAIRED"
            await self._rejected(gateway, before + repeated)

    async def test_replayed_events_close_nobody(
        self, gateway: ServiceProcess, approval: FakeApproval, redis_server: RedisServer
    ) -> None:
        key = DeviceKey.generate()
        async with Listener(redis_server, EVENTS) as listener:
            old = await approval.change(key.device_id)
            approval.answer = at_head(approval)
            await until(lambda: encode_news(old) in listener.bodies, "the event arrived")
            async with connecting(gateway, key) as raw:
                assert (await raw.receive_text())["ok"]
                before = await bus_events(gateway, "rejected-replayed")
                await approval.tell(old)  # sealed again, as a delayed replica would
                repeated = await listener.repeat()
                await self._rejected(gateway, before + repeated)
                await raw.send_json({"type": "req", "id": "1", "method": "health"})
                assert (await raw.receive_text())["ok"]

    async def _rejected(self, gateway: ServiceProcess, times: float) -> None:
        """Wait until the gateway has rejected this many replayed messages."""
        async with asyncio.timeout(WAIT_SECONDS):
            while await bus_events(gateway, "rejected-replayed") < times:  # noqa: ASYNC110 (asked for)
                await asyncio.sleep(POLL_SECONDS)
