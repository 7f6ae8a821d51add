from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.rpc.messages import Denied
from tests.integration.approval.operator import path_of
from tests.support.approval.devices import READ_PAIRING, Device

if TYPE_CHECKING:
    from tests.integration.approval.operator import Operator
    from tests.integration.approval.replica import Replica
    from tests.support.clock import FakeClock


async def is_refused(here: Replica, device: Device, token: str) -> bool:
    """Return whether a device token is refused."""
    answer = await here.answer(device.asks(token=token))
    return isinstance(answer, Denied) and answer.why == "device-token-mismatch"


class TestTokens:
    async def test_never_opens_anything_again_once_the_device_is_removed(
        self, here: Replica, operator: Operator
    ) -> None:
        device = Device.new()
        old = (await here.pair(device)).device_token
        (await operator.call("DELETE", path_of(device))).ok()
        assert await is_refused(here, device, old)
        fresh = await here.pair(device)
        assert fresh.device_token != old
        assert await is_refused(here, device, old)
        await here.admit(device.asks(token=fresh.device_token))

    async def test_the_old_token_is_void_once_rotated(
        self, here: Replica, operator: Operator, clock: FakeClock
    ) -> None:
        device = Device.new()
        old = (await here.pair(device, *READ_PAIRING)).device_token
        clock.advance(1)
        reply = await operator.post(path_of(device, "tokens/operator/rotate"))
        assert reply.ok() == {
            "deviceId": device.device_id,
            "role": "operator",
            "scopes": sorted(READ_PAIRING),
            "rotatedAtMs": clock.wall_ms(),
            "tokenDelivery": "withheld-cross-device",
        }
        assert here.published[-1].closes == ["operator"]
        assert await is_refused(here, device, old)
        fresh = await here.admit(device.asks())
        assert fresh.device_token not in {old, ""}

    async def test_rotation_may_choose_other_approved_scopes(
        self, here: Replica, operator: Operator
    ) -> None:
        device = Device.new()
        await here.pair(device, "operator.admin")
        rotate = path_of(device, "tokens/operator/rotate")
        rotated = (await operator.post(rotate, {"scopes": ["operator.write"]})).ok()
        assert rotated["scopes"] == ["operator.read", "operator.write"]
        assert (await operator.post(rotate)).ok()["scopes"] == rotated["scopes"]
        assert (await operator.post(rotate, {"scopes": []})).ok()["scopes"] == []

    @pytest.mark.parametrize("scope", ["operator.admin", "node.run", "", " operator.read"])
    async def test_a_token_is_never_wider_than_approved(
        self, here: Replica, operator: Operator, scope: str
    ) -> None:
        device = Device.new()
        await here.pair(device)
        reply = await operator.post(
            path_of(device, "tokens/operator/rotate"), {"scopes": ["operator.read", scope]}
        )
        assert reply.status == 403
        assert reply.problem(403, "invalid-scope")["deviceId"] == device.device_id
        assert (await here.admit(device.asks())).token_scopes == ["operator.read"]

    async def test_revoking_needs_an_approval_to_undo(
        self, here: Replica, operator: Operator, clock: FakeClock
    ) -> None:
        device = Device.new()
        old = (await here.pair(device)).device_token
        clock.advance(1)
        revoked = {
            "deviceId": device.device_id,
            "role": "operator",
            "revokedAtMs": clock.wall_ms(),
        }
        for _ in range(2):
            assert (await operator.post(path_of(device, "tokens/operator/revoke"))).ok() == revoked
            clock.advance(1)
        assert await is_refused(here, device, old)
        asked = await here.request(device.asks())
        assert asked.reason == "role-upgrade"
        reply = await operator.post(path_of(device, "tokens/operator/rotate"))
        assert reply.problem(404, "unknown-role")
        (await operator.approve(asked.request_id)).ok()
        (token,) = (await operator.get(path_of(device))).ok()["tokens"]
        assert "revokedAtMs" not in token
        assert (await here.admit(device.asks())).device_token != old
        assert await is_refused(here, device, old)
