"""One address, or one network, floods with new devices: newcomers from elsewhere are heard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from shared.device.client import DeviceClient
from shared.device.handshake import Refused
from shared.device.identity import DeviceKey
from tools.support.actors import Operator

if TYPE_CHECKING:
    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack

PENDING_LIMIT: Final = 40
PER_ADDRESS: Final = 5


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """One approval and one gateway, behind a proxy that names the client's address."""
    return start_stack(
        approvals=1,
        gateways=1,
        env={"TRUSTED_PROXIES": "127.0.0.1"},
        approval_env={
            "PENDING_LIMIT": str(PENDING_LIMIT),
            "PENDING_LIMIT_PER_ADDRESS": str(PER_ADDRESS),
        },
    )


async def ask(stack: Stack, address: str, key: DeviceKey | None = None) -> str:
    """Connect as a new device from an address; returns why it was refused."""
    async with DeviceClient(
        stack.gateways[0].ws_url,
        key or DeviceKey.generate(),
        token=stack.gateway_token,
        headers={"X-Forwarded-For": address},
    ) as client:
        outcome = await client.connect()
    assert isinstance(outcome, Refused), outcome
    return outcome.detail_code or outcome.code


async def test_a_network_that_fills_the_list_gives_way_to_newcomers(stack: Stack) -> None:
    async with Operator(stack, stack.approvals[0]) as operator:
        key = DeviceKey.generate()
        assert await ask(stack, "198.51.100.1", key) == "PAIRING_REQUIRED"
        (shown,) = [one for one in await operator.pending() if one["deviceId"] == key.device_id]
        networks = [f"2001:db8:77:{number:x}::1" for number in range(20)]
        for network in networks * PER_ADDRESS:
            assert await ask(stack, network) == "PAIRING_REQUIRED"
        assert len(await operator.pending()) == PENDING_LIMIT
        newcomer = DeviceKey.generate()
        assert await ask(stack, "2001:db8:78::1", newcomer) == "PAIRING_REQUIRED"
        for network in networks:
            await ask(stack, network)
        pending = await operator.pending()
        assert len(pending) == PENDING_LIMIT
        assert {key.device_id, newcomer.device_id} <= {one["deviceId"] for one in pending}
        (await operator.approve(shown["requestId"])).ok()
