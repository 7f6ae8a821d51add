"""Replicas of the previous and of a later release beside the current one."""

from __future__ import annotations

import contextlib
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import msgspec
import pytest

from shared.bus.channels import EVENTS
from shared.bus.envelope import OLDEST_READABLE_VERSION, READABLE_VERSIONS, VERSION
from shared.bus.errors import Unavailable
from shared.rpc.messages import Admitted, AuthorizeDevice, Changed, NeedsPairing, Position, encode
from tests.e2e.bus.intruder import redis_client
from tests.e2e.metrics import counted
from tests.support.approval.devices import Device
from tools.support.actors import Operator, SimulatedDevice, wait_for_approvals, wait_for_log
from tools.support.peers import DEVICE_TOKEN, FakeApproval, FakeGateway
from tools.support.waiting import until

if TYPE_CHECKING:
    from shared.rpc.messages import HeartbeatQuestion, ReportSecret
    from shared.rpc.responder import Reply
    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack

ADDRESS: Final = "127.0.0.1"

pytestmark = pytest.mark.usefixtures("check_health")


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two approvals and two gateways, for the whole module."""
    return start_stack(approvals=2, gateways=2)


async def head_of(stack: Stack) -> Position:
    """Return the current position of the store's history."""
    async with contextlib.aclosing(redis_client(stack.redis.admin_url)) as client:
        found = await client.get("latchkey:head")
    if found is None:
        return Position()
    assert isinstance(found, bytes)
    number, _, tag = found.decode().partition(":")
    return Position(int(number), tag)


class NewerApproval(FakeApproval):
    """An approval of a later release: its answers and events have unknown fields."""

    async def _reply(self, asked: AuthorizeDevice | ReportSecret | HeartbeatQuestion) -> Reply:
        reply = await super()._reply(asked)
        assert isinstance(reply, bytes)
        return with_more(reply)


def with_more(body: bytes) -> bytes:
    """Return a message with two additional fields at its end."""
    return msgspec.msgpack.encode([*msgspec.msgpack.decode(body), "new", {"in": ["10.0"]}])


class TestOtherReleases:
    """During a rolling deployment this version and the previous one understand each other."""

    @pytest.mark.parametrize("version", sorted(READABLE_VERSIONS))
    async def test_a_gateway_of_a_readable_version_is_answered_and_receives_events(
        self, stack: Stack, version: int
    ) -> None:
        device = Device.new()
        async with (
            FakeGateway(stack.redis.gateway_url, stack.bus_secret, version=version) as other,
            Operator(stack, stack.approvals[0]) as operator,
        ):
            await until(lambda: len(other.responders.live()) == 2, "both approvals are heard")
            answers = [await other.ask(device.asks(address=ADDRESS)) for _ in range(4)]
            assert all(isinstance(answer, NeedsPairing) for answer in answers)
            (await operator.approve(answers[0].request_id)).ok()
            answers = [await other.ask(device.asks(address=ADDRESS)) for _ in range(4)]
            assert all(isinstance(answer, Admitted) for answer in answers)
            await until(
                lambda: any(
                    isinstance(event, Changed) and event.device_id == device.device_id
                    for event in other.events
                ),
                "the event of the approval arrives",
            )
        for approval in stack.approvals:
            await wait_for_log(approval, "question", device=device.device_id)

    async def test_a_gateway_of_an_unreadable_version_is_counted_and_not_answered(
        self, stack: Stack
    ) -> None:
        async with FakeGateway(
            stack.redis.gateway_url, stack.bus_secret, version=OLDEST_READABLE_VERSION - 1
        ) as older:
            await until(lambda: len(older.responders.live()) == 2, "both approvals are heard")
            with pytest.raises(Unavailable):
                await older.ask(Device.new().asks(address=ADDRESS))
        for approval in stack.approvals:
            assert await counted(approval, "rejected-version") > 0

    async def test_a_newer_gateway_is_answered(self, stack: Stack) -> None:
        async with FakeGateway(stack.redis.gateway_url, stack.bus_secret) as newer:
            await until(lambda: len(newer.responders.live()) == 2, "both approvals are heard")
            for _ in range(4):
                question = with_more(encode(Device.new().asks(address=ADDRESS)))
                answer = await newer.requester.ask(msgspec.Raw(question))
                assert msgspec.msgpack.decode(answer)[0] == "needs-pairing"

    @pytest.mark.parametrize(
        ("kind", "version"),
        [
            *((FakeApproval, version) for version in sorted(READABLE_VERSIONS)),
            (NewerApproval, VERSION),
        ],
    )
    async def test_an_approval_of_another_release_is_asked_and_believed(
        self, stack: Stack, kind: type[FakeApproval], version: int
    ) -> None:
        (gateway, *_) = stack.gateways
        device = SimulatedDevice(stack)
        base = await head_of(stack)
        async with (
            kind(stack.redis.approval_url, stack.bus_secret, version=version, base=base) as other,
            AsyncExitStack() as sockets,
        ):
            await wait_for_approvals(gateway, "3 live")
            for approval in stack.approvals:
                approval.pause()
            client, admitted = await device.stay_connected(gateway)
            sockets.push_async_callback(client.close)
            assert admitted.device_token == DEVICE_TOKEN
            assert [asked.device_id for asked in other.asked] == [device.device_id]
            event = Changed(Position(10**9, "t"), "", device.device_id, "removed", 1, ["*"])
            await other.publish(EVENTS, with_more(encode(event)))
            assert await client.closed(within=5) == (4001, "device removed")
