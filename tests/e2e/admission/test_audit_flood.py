"""A flood by a client with the gateway token does not displace decisions from the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from services.approval.storage.changes.transaction import ADDRESS_ENTRIES_PER_HOUR
from tools.support.actors import Operator, SimulatedDevice, pair

if TYPE_CHECKING:
    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack

ABOVE: Final = 20


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """One approval and one gateway, with a small list of requests."""
    return start_stack(approvals=1, gateways=1, env={"PENDING_LIMIT_PER_ADDRESS": "5"})


async def test_a_flood_of_requests_fills_the_audit_log_only_so_far(stack: Stack) -> None:
    device = await pair(stack)
    strangers = ADDRESS_ENTRIES_PER_HOUR // 2 + ABOVE  # each request displaces another one
    for _ in range(strangers):
        await SimulatedDevice(stack).request_pairing(stack.gateways[0])
    async with Operator(stack, stack.approvals[0]) as operator:
        entries, after = [], 0
        while page := (await operator.call("GET", f"audit?after={after}&limit=1000")).ok()[
            "entries"
        ]:
            entries += page
            after = page[-1]["id"]
        noise = [entry for entry in entries if entry["action"] in {"requested", "displaced"}]
        assert len(noise) == ADDRESS_ENTRIES_PER_HOUR
        (approved,) = [entry for entry in entries if entry["action"] == "approved"]
        assert approved["deviceId"] == device.device_id
        (await operator.remove(device.device_id)).ok()
        newest = (await operator.call("GET", "audit?limit=1")).ok()["entries"]
        assert [(entry["action"], entry["deviceId"]) for entry in newest] == [
            ("removed", device.device_id)
        ]
        assert newest[0]["id"] > ADDRESS_ENTRIES_PER_HOUR + ABOVE
