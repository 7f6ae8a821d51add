"""Notifications survive the replica that delivers them, and a restart of Redis."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from shared.device.identity import DeviceKey
from tests.support.webhook_receiver import Receiver, new_secret
from tools.support.actors import Operator, SimulatedDevice, log_lines
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import StartStack
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack

SECRET = new_secret()

pytestmark = pytest.mark.usefixtures("restore_stack")


@pytest.fixture(scope="module")
def port() -> int:
    """Return a port that nothing uses."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found: int = listener.getsockname()[1]
    return found


@pytest.fixture(scope="module")
def stack(start_stack: StartStack, port: int) -> Stack:
    """Two approvals that notify a receiver, and a gateway."""
    return start_stack(
        approvals=2,
        gateways=1,
        approval_env={
            "WEBHOOK_TARGETS": f"json+http://127.0.0.1:{port}/in",
            "WEBHOOK_SECRETS": SECRET,
            "WEBHOOK_PRIVATE_ADDRESSES": "yes",
        },
    )


@pytest.fixture
async def receiver(stack: Stack, port: int) -> AsyncIterator[Receiver]:
    """Return a receiver that has got everything of earlier tests."""
    async with Receiver(SECRET, port=port) as receiver:
        async with Operator(stack, stack.approvals[0]) as operator:
            sent = (await operator.call("POST", "webhooks/json-1/test", {})).ok()
        await receiver.until(
            lambda: sent["notificationId"] in {one.id for one in receiver.accepted}
        )
        receiver.received.clear()
        yield receiver


def lease_of(stack: Stack) -> str:
    """Return the lease: boot id and number."""
    read = "return redis.status_reply(redis.call('GET', 'latchkey:webhooks:lease') or '')"
    return stack.redis.call("EVAL", read, "0")


async def holder(stack: Stack) -> tuple[ServiceProcess, ServiceProcess]:
    """Return the approval that delivers, and the other one."""
    first, second = stack.approvals
    held = lease_of(stack).rpartition(":")[0].lstrip("+")
    assert held in {first.boot_id, second.boot_id}
    return (first, second) if held == first.boot_id else (second, first)


async def ask_and_approve(stack: Stack, approval: ServiceProcess, receiver: Receiver) -> str:
    """Have a device ask while the receiver hangs, and approve it there; return its id."""
    device = SimulatedDevice(stack, key=DeviceKey.generate())
    receiver.behaviour = "hang"
    request_id = await device.request_pairing(stack.gateways[0])
    await receiver.until(lambda: bool(receiver.received))
    async with Operator(stack, approval) as operator:
        (await operator.approve(request_id)).ok()
    return device.key.device_id


async def test_a_replica_that_dies_is_replaced(stack: Stack, receiver: Receiver) -> None:
    dying, other = await holder(stack)
    device_id = await ask_and_approve(stack, other, receiver)
    dying.kill9()
    receiver.behaviour = 200
    await receiver.until_types("device.waiting", "device.approved")
    assert {one.data["deviceId"] for one in receiver.received} == {device_id}
    assert len({one.id for one in receiver.received}) == 2
    assert log_lines(other, "webhook.delivering")


async def test_a_replica_that_is_paused_is_replaced_and_does_not_interfere(
    stack: Stack, receiver: Receiver
) -> None:
    paused, other = await holder(stack)
    await ask_and_approve(stack, other, receiver)
    paused.pause()
    receiver.behaviour = 200
    await receiver.until_types("device.waiting", "device.approved")
    paused.resume()
    await paused.until_ready()
    async with Operator(stack, other) as operator:
        sent = (await operator.call("POST", "webhooks/json-1/test", {})).ok()
    await receiver.until_types("device.waiting", "device.approved", "webhook.test")
    assert receiver.accepted[-1].id == sent["notificationId"]
    assert (await holder(stack))[0] is other


async def test_a_stopped_replica_hands_over_at_once(stack: Stack, receiver: Receiver) -> None:
    leaving, other = await holder(stack)
    leaving.terminate()
    await until(
        lambda: other.boot_id in lease_of(stack),
        "the other replica delivers",
    )
    async with Operator(stack, other) as operator:
        (await operator.call("POST", "webhooks/json-1/test", {})).ok()
    await receiver.until_types("webhook.test")


async def test_redis_restarts_with_all_that_waits(stack: Stack, receiver: Receiver) -> None:
    receiver.behaviour = 500
    device = SimulatedDevice(stack)
    await device.request_pairing(stack.gateways[0])
    await receiver.until(lambda: bool(receiver.received))
    stack.redis.kill9()
    stack.redis.start()
    receiver.behaviour = 200
    await receiver.until_types("device.waiting")
    assert len({one.id for one in receiver.received}) == 1
    for approval in stack.approvals:
        assert str(receiver.port) + "/in" not in approval.log_text()
