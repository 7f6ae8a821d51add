"""Messages on the bus are plain msgpack: a peer without our encoder reads and writes them.

The names of messages and the order of their fields are stated here, because a peer in another
language relies on them.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from shared.bus.channels import EVENTS, ask_channel, inbox_channel
from shared.bus.envelope import VERSION
from shared.device.identity import DeviceKey
from shared.device.profile import CLI
from tests.e2e.bus.intruder import redis_client
from tests.support.msgpack_peer import MsgpackPeer
from tools.support.actors import Operator, SimulatedDevice
from tools.support.waiting import WAIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import StartStack
    from tests.support.msgpack_peer import Opened
    from tools.support.processes.stack import Stack


NO_SETUP_CODE: Final = ""
AUTHORIZE: Final = "authorize-device"
HEARTBEAT: Final = "heartbeat"
UNCHANGED: Final = [0, ""]
"""A position: number and tag. This one is before the first change."""


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """One approval and one gateway, for the whole module."""
    return start_stack(approvals=1, gateways=1)


@pytest.fixture
async def peer(stack: Stack) -> AsyncIterator[MsgpackPeer]:
    """Return a peer with all rights in Redis, and BUS_SECRET."""
    redis = redis_client(stack.redis.admin_url)
    peer = MsgpackPeer(redis, stack.bus_secret)
    yield peer
    await peer.aclose()
    await redis.aclose()


async def next_question(peer: MsgpackPeer, kind: str) -> tuple[Opened, int, list[Any]]:
    """Return the next message with a question of this kind, the question's number, and it."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            opened = await peer.next()
            (items,) = opened.message
            for number, question in items:
                if question[0] == kind:
                    return opened, number, question


async def next_answer(peer: MsgpackPeer, channel: str, number: int) -> tuple[Opened, list[Any]]:
    """Return the message on an inbox that answers a question, and that answer."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            opened = await peer.next()
            if opened.channel != channel:
                continue
            (items,) = opened.message
            for answered, status, answer in items:
                if answered == number:
                    assert status == "ok"
                    return opened, answer


class TestReading:
    async def test_a_gateways_question_and_approvals_answer(
        self, stack: Stack, peer: MsgpackPeer
    ) -> None:
        gateway, approval = stack.gateways[0], stack.approvals[0]
        device = SimulatedDevice(stack, CLI)
        ask, inbox = ask_channel(approval.boot_id), inbox_channel(gateway.boot_id)
        await peer.listen(ask, inbox)
        connecting = asyncio.create_task(device.request_pairing(gateway))
        asked, number, question = await next_question(peer, AUTHORIZE)
        assert (asked.channel, asked.version, asked.sender) == (ask, VERSION, gateway.boot_id)
        assert asked.sequence > 0
        (
            kind,
            call_id,
            device_id,
            public_key,
            role,
            scopes,
            client,
            method,
            address,
            protocol,
            *rest,
        ) = question
        assert kind == AUTHORIZE
        assert call_id.startswith(f"{gateway.boot_id}:")
        assert (device_id, public_key) == (device.key.device_id, device.key.public_key)
        assert (role, scopes) == (CLI.role, sorted(CLI.scopes or ()))
        assert client[:2] == [CLI.client_id, CLI.mode]
        assert (method, address, protocol) == ("token", "127.0.0.1", 4)
        candidate, candidate_field, gateway_token_failed, not_after_ms, *flags = rest
        assert (candidate, candidate_field, gateway_token_failed) == ("", "", False)
        assert 0 < not_after_ms - time.time() * 1000 < 60_000
        assert flags == [False, False, [], False, NO_SETUP_CODE]

        answered, answer = await next_answer(peer, inbox, number)
        assert answered.sender == approval.boot_id
        kind, change, reason, request_id, roles, scopes, by_setup_code = answer
        assert kind == "needs-pairing"
        assert [type(part) for part in change] == [int, str]
        assert reason == "not-paired"
        assert request_id == await connecting
        assert roles is scopes is None
        assert by_setup_code is False

    async def test_events_of_a_living_approval_and_of_a_change(
        self, stack: Stack, peer: MsgpackPeer
    ) -> None:
        approval = stack.approvals[0]
        device = SimulatedDevice(stack, CLI)
        request_id = await device.request_pairing(stack.gateways[0])
        await peer.listen(EVENTS)
        async with asyncio.timeout(WAIT_SECONDS):
            while (alive := await peer.next()).message[0] != "alive":
                pass
        assert alive.message == ["alive", approval.boot_id, True]
        async with Operator(stack, approval) as operator:
            (await operator.approve(request_id)).ok()
        async with asyncio.timeout(WAIT_SECONDS):
            while (changed := await peer.next()).message[0] != "changed":
                pass
        _, (number, tag), previous_tag, device_id, kind, at_ms, closes, *_ = changed.message
        assert number > 0
        assert tag != previous_tag
        assert device_id == device.device_id
        assert kind == "approved"
        assert abs(at_ms - time.time() * 1000) < 60_000
        assert closes == []


class TestWriting:
    async def test_approval_answers_a_gateway_written_with_msgpack(
        self, stack: Stack, peer: MsgpackPeer
    ) -> None:
        approval = stack.approvals[0]
        key = DeviceKey.generate()
        inbox = inbox_channel(peer.boot_id)
        await peer.listen(inbox)

        async def ask(number: int) -> list[Any]:
            client = ["cli", "cli", "1.0", "linux"]
            question = [
                *(AUTHORIZE, f"{peer.boot_id}:{number}", key.device_id, key.public_key),
                *("operator", ["operator.read"], client, "token", "192.0.2.7", 4),
            ]
            assert await peer.publish(ask_channel(approval.boot_id), [[[number, question]]]) == 1
            return (await next_answer(peer, inbox, number))[1]

        kind, _, _, request_id, *_ = await ask(1)
        assert kind == "needs-pairing"
        async with Operator(stack, approval) as operator:
            (await operator.approve(request_id)).ok()
        kind, (number, _), device_token, scopes, issued_at_ms, *_ = await ask(2)
        assert kind == "admitted"
        assert number > 0
        assert len(device_token) == 43
        assert scopes == ["operator.read"]
        assert abs(issued_at_ms - time.time() * 1000) < 60_000

    async def test_a_gateway_believes_an_approval_written_with_msgpack(
        self, start_stack: StartStack
    ) -> None:
        alone = start_stack(approvals=0, gateways=0)
        gateway = alone._new_gateway({})
        gateway.start()
        redis = redis_client(alone.redis.admin_url)
        peer = MsgpackPeer(redis, alone.bus_secret)
        device = SimulatedDevice(alone, CLI)

        async def announce() -> None:
            while True:
                await peer.publish(EVENTS, ["alive", peer.boot_id])
                await asyncio.sleep(0.5)

        async def answer() -> None:
            while True:
                opened = await peer.next()
                (items,) = opened.message
                inbox = inbox_channel(opened.sender)
                answers = [[number, "ok", reply(question)] for number, question in items]
                await peer.publish(inbox, [answers])

        def reply(question: list[Any]) -> list[object]:
            if question[0] == HEARTBEAT:
                _, heartbeat_id, _applied, *_ = question
                now_ms = int(time.time() * 1000)
                return ["heartbeat-answer", heartbeat_id, UNCHANGED, now_ms, heartbeat_id]
            if question[0] == AUTHORIZE:
                assert question[2] == device.device_id
                issued_at_ms = int(time.time() * 1000)
                return ["admitted", UNCHANGED, "t" * 43, question[5], issued_at_ms]
            return ["secret-accepted", UNCHANGED]

        await peer.listen(ask_channel(peer.boot_id))
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(announce()), tasks.create_task(answer())]
            await gateway.until_ready()
            admitted = await device.connect_once(gateway)
            assert admitted.device_token == "t" * 43
            for task in running:
                task.cancel()
        await peer.aclose()
        await redis.aclose()
