"""Remove, revoke, rotate: which sockets close, and which tokens become invalid."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from shared.device.profile import CLI, CLI_3, NODE_HOST
from tools.support.actors import Operator, SimulatedDevice, pair, wait_for_log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.device.client import DeviceClient
    from shared.device.profile import Profile
    from tests.conftest import StartStack
    from tests.e2e.callers import Callers
    from tools.support.actors import Reply
    from tools.support.processes.stack import Stack

CLOSED_SECONDS = 5.0
"""Time limit for closing a removed device's socket, with reserve for a loaded machine."""

ENDINGS: dict[str, Callable[[Operator, str], Awaitable[Reply]]] = {
    "removed": lambda operator, device_id: operator.remove(device_id),
    "revoked": lambda operator, device_id: operator.revoke(device_id),
    "rotated": lambda operator, device_id: operator.rotate(device_id),
}

both_protocols = pytest.mark.parametrize("profile", [CLI, CLI_3], ids=["cli 4", "cli 3"])
pytestmark = pytest.mark.usefixtures("no_lockouts")


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two approvals and three gateways, for the whole module."""
    return start_stack(approvals=2, gateways=3)


class TestEndedDevicesAreClosed:
    @both_protocols
    @pytest.mark.parametrize("ending", ENDINGS)
    async def test_closes_the_devices_sockets_on_every_gateway_and_no_others(
        self,
        stack: Stack,
        callers: Callers,
        second_operator: Operator,
        profile: Profile,
        ending: str,
    ) -> None:
        end = ENDINGS[ending]
        device, other = await pair(stack, profile), await pair(stack, profile)
        inside: list[DeviceClient] = []
        outside: list[DeviceClient] = []
        for gateway in stack.gateways:
            for client_device, item in ((device, inside), (device, inside), (other, outside)):
                item.append((await callers.stay(client_device, gateway)).client)
        (await end(second_operator, device.device_id)).ok()
        closes = await asyncio.gather(*(client.closed(within=CLOSED_SECONDS) for client in inside))
        assert closes == [(4001, "device removed")] * 6
        for client in outside:
            assert (await client.call("health")).ok
        for gateway in stack.gateways:
            (line,) = await wait_for_log(
                gateway, "device.changed", device=device.device_id, kind=ending
            )
            assert line["closed"] == 2

    @both_protocols
    async def test_after_a_remove_the_old_token_stays_dead(
        self, stack: Stack, operator: Operator, profile: Profile
    ) -> None:
        device = await pair(stack, profile)
        old = device.token
        (await operator.remove(device.device_id)).ok()
        await self.refuses_old_token(stack, device, old)
        request_id = await device.request_pairing(stack.gateways[1])
        (await operator.approve(request_id)).ok()
        await self.refuses_old_token(stack, device, old)
        await device.connect_once(stack.gateways[2])
        assert device.token != old
        await device.connect_once(stack.gateways[0], with_gateway_token=False)
        await self.refuses_old_token(stack, device, old)

    @both_protocols
    async def test_after_a_rotate_only_the_new_token_is_good(
        self, stack: Stack, operator: Operator, profile: Profile
    ) -> None:
        device = await pair(stack, profile)
        old = device.token
        rotated = (await operator.rotate(device.device_id)).ok()
        assert rotated["tokenDelivery"] == "withheld-cross-device"
        await self.refuses_old_token(stack, device, old)
        await device.connect_once(stack.gateways[1])
        assert device.token != old
        await device.connect_once(stack.gateways[2], with_gateway_token=False)

    @both_protocols
    async def test_after_a_revoke_a_person_has_to_decide_again(
        self, stack: Stack, operator: Operator, profile: Profile
    ) -> None:
        device = await pair(stack, profile)
        old = device.token
        (await operator.revoke(device.device_id)).ok()
        await self.refuses_old_token(stack, device, old)
        refused = await device.expect_refusal(stack.gateways[1])
        assert refused.detail_code == "PAIRING_REQUIRED"
        assert refused.details["reason"] == "role-upgrade"
        (await operator.approve(refused.request_id)).ok()
        await device.connect_once(stack.gateways[2])
        assert device.token != old
        await self.refuses_old_token(stack, device, old)

    async def refuses_old_token(self, stack: Stack, device: SimulatedDevice, old: str) -> None:
        """Check that the old token is refused at every gateway, and costs the device nothing."""
        came_with = SimulatedDevice(stack, device.profile, device.key, old)
        for gateway in stack.gateways:
            refused = await came_with.expect_refusal(gateway, with_gateway_token=False)
            assert refused.code == "INVALID_REQUEST"
            assert refused.detail_code == "AUTH_DEVICE_TOKEN_MISMATCH"
            message = "unauthorized: device token mismatch (rotate/reissue device token)"
            assert refused.close == (1008, message)

    async def test_a_role_that_is_revoked_takes_only_its_own_sockets_along(
        self, stack: Stack, callers: Callers, operator: Operator
    ) -> None:
        device = await pair(stack, CLI)
        node = SimulatedDevice(stack, NODE_HOST, device.key)
        (await operator.approve(await node.request_pairing(stack.gateways[0]))).ok()
        stays = (await callers.stay(device, stack.gateways[1])).client
        goes = (await callers.stay(node, stack.gateways[1])).client
        (await operator.revoke(device.device_id, "node")).ok()
        assert await goes.closed(within=CLOSED_SECONDS) == (4001, "device removed")
        assert (await stays.call("health")).ok

    async def test_what_changes_nothing_for_it_closes_nothing(
        self, stack: Stack, operator: Operator
    ) -> None:
        device, last = await pair(stack), await pair(stack)
        client, _ = await device.stay_connected(stack.gateways[2])
        ending, _ = await last.stay_connected(stack.gateways[2])
        async with client, ending:
            path = f"devices/{device.device_id}"
            (await operator.call("PATCH", path, {"label": "Kitchen"})).ok()
            wider = device.with_scopes("operator.admin")
            request_id = await wider.request_pairing(stack.gateways[0])
            (await operator.approve(request_id)).ok()
            await wider.connect_once(stack.gateways[0])
            (await operator.remove(last.device_id)).ok()
            await ending.closed(within=CLOSED_SECONDS)  # earlier events arrive as well
            assert (await client.call("health")).ok
            assert client.is_open
