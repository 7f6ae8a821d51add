"""Devices that are removed here are removed upstream, also if it is starting at that moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.relay.devices import new_device
from tests.e2e.relay.openclaw.relayed import relayed_stack
from tools.support.actors import Operator, wait_for_log
from tools.support.waiting import until

if TYPE_CHECKING:
    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack
    from tools.support.stub_openclaw import StubOpenClaw

STARTING = {
    "code": "UNAVAILABLE",
    "message": "gateway is starting",
    "details": {"reason": "startup-sidecars"},
    "retryable": True,
}


@pytest.fixture(scope="module")
def stack(start_stack: StartStack, upstream: StubOpenClaw) -> Stack:
    """One gateway with the upstream."""
    return relayed_stack(start_stack, upstream.url)


async def test_a_removal_waits_until_the_upstream_has_started(
    stack: Stack, upstream: StubOpenClaw
) -> None:
    device = new_device(stack)
    (gateway,) = stack.gateways
    async with Operator(stack, stack.approvals[0]) as operator:
        (await operator.approve(await device.request_pairing(gateway))).ok()
        await device.connect_when_ready(gateway)
        assert device.device_id in upstream.paired
        upstream.refusal = STARTING
        (await operator.remove(device.device_id)).ok()
    await wait_for_log(gateway, "upstream.removed", device=device.device_id)
    upstream.refusal = None
    await until(lambda: device.device_id not in upstream.paired, "it is removed upstream")
