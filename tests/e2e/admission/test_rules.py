"""Approval rules with two gateways and two approvals: who is admitted, and how often."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from shared.device.handshake import Admitted
from shared.device.profile import NODE_HOST
from tests.e2e.command.terminal import Terminal
from tools.support.actors import Operator, SimulatedDevice
from tools.support.waiting import POLL_SECONDS

if TYPE_CHECKING:
    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two of each."""
    return start_stack(approvals=2, gateways=2)


async def rule(stack: Stack, *arguments: str) -> Any:
    """Run `latchkey rules` and return its JSON."""
    done = await Terminal(stack).run("rules", *arguments, "--json")
    assert done.code == 0, done
    return done.json


async def admitted_soon(stack: Stack, device: SimulatedDevice) -> None:
    """Connect until the approvals have learned of a new rule, which takes at most a second."""
    for _ in range(50):
        async with device.client(stack.gateways[0]) as client:
            if isinstance(await client.connect(), Admitted):
                return
        await asyncio.sleep(POLL_SECONDS)
    pytest.fail("the rule did not approve the device")


async def test_a_rule_admits_at_once_as_often_as_it_says_and_not_after_its_removal(
    stack: Stack, operator: Operator, second_operator: Operator
) -> None:
    device = SimulatedDevice(stack, NODE_HOST)
    asked = await device.request_pairing(stack.gateways[0])
    wanted = ("kiosks", "--role", "node", "--network", "127.0.0.0/8", "--count", "5")
    tried = await rule(stack, "test", *wanted, "--expires", "1h")
    assert [one["requestId"] for one in tried["pending"] if one["approved"]] == [asked]
    assert len(await operator.pending()) == 1, "a trial approves nothing"
    await rule(stack, "add", *wanted, "--expires", "1h", "--yes")
    await admitted_soon(stack, device)

    async def connect(number: int) -> bool:
        """Return whether a new node is admitted at once."""
        node = SimulatedDevice(stack, NODE_HOST)
        async with node.client(stack.gateways[number % 2]) as client:
            outcome = await client.connect()
        assert isinstance(outcome, Admitted) or outcome.detail_code == "PAIRING_REQUIRED"
        return isinstance(outcome, Admitted)

    admitted = await asyncio.gather(*map(connect, range(12)))
    assert admitted.count(True) == 4, "with the first device, five in all"
    (listed,) = (await second_operator.call("GET", "rules")).ok()["rules"]
    assert (listed["used"], listed["state"]) == (5, "used-up")
    entries = (await operator.call("GET", "audit?limit=1000")).ok()["entries"]
    by_rule = [one for one in entries if one["actor"] == "rule:kiosks"]
    assert [one["action"] for one in by_rule] == ["approved"] * 5
    await device.connect_once(stack.gateways[1])
    await rule(stack, "remove", "kiosks", "--yes")
    assert not await connect(0)
    await device.connect_once(stack.gateways[0])


async def test_only_the_rules_network_and_scopes_are_admitted(
    stack: Stack, operator: Operator
) -> None:
    wanted = ("office", "--role", "node", "--network", "192.0.2.0/24", "--expires", "1h")
    await rule(stack, "add", *wanted, "--yes")
    try:
        for _ in range(3):
            await SimulatedDevice(stack, NODE_HOST).request_pairing(stack.gateways[0])
        wider = replace(NODE_HOST, scopes=("node.run",))
        await SimulatedDevice(stack, wider).request_pairing(stack.gateways[1])
        await SimulatedDevice(stack).request_pairing(stack.gateways[1])
    finally:
        await rule(stack, "remove", "office", "--yes")


async def test_a_removed_device_stays_away(stack: Stack, operator: Operator) -> None:
    device = SimulatedDevice(stack, NODE_HOST)
    wanted = ("one", "--role", "node", "--device", device.device_id, "--count", "5")
    await rule(stack, "add", *wanted, "--expires", "1h", "--yes")
    await admitted_soon(stack, device)
    (await operator.remove(device.device_id)).ok()
    for gateway in stack.gateways:
        await device.request_pairing(gateway)
    await rule(stack, "remove", "one", "--yes")
