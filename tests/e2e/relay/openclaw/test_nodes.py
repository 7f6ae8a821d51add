"""Removing a node: here first, then at the upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.device.profile import CLI, NODE_HOST
from tests.e2e.relay.devices import new_device
from tools.support.actors import Operator

if TYPE_CHECKING:
    from shared.device.client import DeviceClient
    from shared.device.profile import Profile
    from tests.e2e.relay.devices import RelayedDevice
    from tools.support.processes.stack import Stack
    from tools.support.stub_openclaw import StubOpenClaw


async def joined(
    stack: Stack, profile: Profile, gateway: int = 0
) -> tuple[RelayedDevice, DeviceClient]:
    """Return an approved, connected device, and its client."""
    device = new_device(stack)
    device.profile = profile
    async with Operator(stack, stack.approvals[0]) as operator:
        (await operator.approve(await device.request_pairing(stack.gateways[gateway]))).ok()
    client, _admitted = await device.connect_when_ready(stack.gateways[gateway])
    return device, client


async def test_a_node_that_is_removed_upstream_loses_its_role_here_first(
    stack: Stack, upstream: StubOpenClaw
) -> None:
    node, node_client = await joined(stack, NODE_HOST, gateway=1)
    _device, client = await joined(stack, CLI.with_scopes("operator.pairing"))
    answer = await client.call("node.pair.remove", {"nodeId": node.device_id})
    assert answer.payload["from"] == "upstream"
    assert "node.pair.remove" in upstream.clients[-1].frames[-1]
    assert (await node_client.closed()).code == 4001
    refused = await node.expect_refusal(stack.gateways[0])
    assert refused.detail_code == "PAIRING_REQUIRED"


async def test_a_node_that_may_not_be_removed_here_is_not_removed_upstream(
    stack: Stack, upstream: StubOpenClaw
) -> None:
    node, node_client = await joined(stack, NODE_HOST, gateway=1)
    _device, client = await joined(stack, CLI.with_scopes("operator.write"))
    answer = await client.call("node.pair.remove", {"nodeId": node.device_id})
    assert (answer.error or {})["message"] == "missing scope: operator.pairing"
    assert upstream.clients[-1].frames == []
    assert node_client.is_open


async def test_a_node_that_is_unknown_here_is_left_to_the_upstream(
    stack: Stack, upstream: StubOpenClaw
) -> None:
    _device, client = await joined(stack, CLI.with_scopes("operator.pairing"))
    answer = await client.call("node.pair.remove", {"nodeId": "0" * 64})
    assert answer.payload["from"] == "upstream"
    assert len(upstream.clients[-1].frames) == 1
