"""An upstream that grants a device fewer scopes than it was approved for here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.e2e.relay.devices import new_device
from tools.support.actors import Operator, wait_for_log

if TYPE_CHECKING:
    from tests.e2e.relay.devices import RelayedDevice
    from tools.support.processes.stack import Stack
    from tools.support.stub_openclaw import StubOpenClaw

READ: Final = "operator.read"
WRITE: Final = "operator.write"


async def limited(stack: Stack, upstream: StubOpenClaw, *scopes: str) -> RelayedDevice:
    """Return a device that is paired at both, and gets no scopes from the upstream."""
    device = new_device(stack, *scopes)
    async with Operator(stack, stack.approvals[0]) as operator:
        (await operator.approve(await device.request_pairing(stack.gateways[0]))).ok()
    await device.connect_when_ready(stack.gateways[0])
    upstream.limited.add(device.device_id)
    return device


async def test_its_request_there_is_found_and_approved(
    stack: Stack, upstream: StubOpenClaw
) -> None:
    device = await limited(stack, upstream, READ)
    upstream.pending |= {"of-another": "0" * 64, "its-own": device.device_id}
    _client, admitted = await device.connect_when_ready(stack.gateways[0])
    assert admitted.hello["auth"]["scopes"] == [READ]
    assert set(upstream.pending) == {"of-another"}


async def test_a_request_for_more_than_was_approved_here_is_left_alone(
    stack: Stack, upstream: StubOpenClaw
) -> None:
    device = await limited(stack, upstream, WRITE)  # the stub's requests are for READ
    upstream.pending["its-own"] = device.device_id
    _client, admitted = await device.connect_when_ready(stack.gateways[0])
    assert admitted.hello["auth"]["scopes"] == []
    assert set(upstream.pending) == {"its-own"}


async def test_without_a_request_it_is_connected_with_what_the_upstream_grants(
    stack: Stack, upstream: StubOpenClaw
) -> None:
    device = await limited(stack, upstream, READ)
    _client, admitted = await device.connect_when_ready(stack.gateways[0])
    assert admitted.hello["auth"]["scopes"] == []
    await wait_for_log(stack.gateways[0], "upstream.grants_less", device=device.device_id)
    upstream.limited.clear()
    _client, admitted = await device.connect_when_ready(stack.gateways[0])
    assert admitted.hello["auth"]["scopes"] == [READ]
