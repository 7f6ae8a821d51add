"""What each class of callers may do at the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.approval.domain.authorization import OPERATOR
from services.approval.domain.errors import (
    InvalidScope,
    MissingScope,
    NotAllowed,
    RequestOver,
    UnknownDevice,
    UnknownRequest,
    UnknownRole,
)
from tests.support.approval.callers import shared_secret
from tests.support.approval.devices import READ, Device

if TYPE_CHECKING:
    from tests.integration.approval.replica import Replica

ADMIN = "operator.admin"
PAIRING = "operator.pairing"
NOBODY = "0" * 64


class TestDeviceTokensReachOnlyTheirDevice:
    """A caller with a device token can read and change only its own device."""

    async def test_lists_contain_only_its_own_device(self, here: Replica) -> None:
        own, other = await here.paired(ADMIN), await here.paired()
        mine = await here.request(own.asks(("node.run",)))
        theirs = await here.request(other.asks(("operator.write",)))
        caller = await here.socket(own, *READ)
        door = here.registry
        assert [device.device_id for device in await door.devices(caller)] == [own.device_id]
        assert [request.pending.request_id for request in await door.pending(caller)] == [
            mine.request_id
        ]
        everybody = {mine.request_id, theirs.request_id}
        for sees_all in (shared_secret(), await here.socket(own, ADMIN), OPERATOR):
            assert {
                request.pending.request_id for request in await door.pending(sees_all)
            } == everybody
            assert len(await door.devices(sees_all)) == 2

    async def test_calls_on_other_devices_are_refused(self, here: Replica) -> None:
        own, other = await here.paired(*READ, PAIRING), await here.paired()
        asked = await here.request(other.asks((PAIRING,)))
        caller, door = await here.socket(own, *READ), here.registry
        for call in (
            door.device(caller, other.device_id),
            door.approve(caller, asked.request_id),
            door.reject(caller, asked.request_id),
            door.remove(caller, other.device_id),
            door.rename(caller, other.device_id, "label"),
            door.rotate(caller, other.device_id, "operator"),
            door.revoke(caller, other.device_id, "operator"),
        ):
            with pytest.raises(NotAllowed):
                await call
        assert not await here.registry.audit(OPERATOR, asked.change.number, 10)

    @pytest.mark.parametrize("ended", ["approved", "rejected", "superseded", "unknown"])
    async def test_how_another_devices_request_ended_is_not_revealed(
        self, here: Replica, ended: str
    ) -> None:
        own, other = await here.paired(*READ, PAIRING), Device.new()
        request_id = (await here.request(other.asks())).request_id
        if ended == "approved":
            await here.registry.approve(OPERATOR, request_id)
        elif ended == "rejected":
            await here.registry.reject(OPERATOR, request_id)
        elif ended == "superseded":
            await here.request(other.asks((ADMIN,)))
        else:
            request_id = "unknown"
        for act in (here.registry.approve, here.registry.reject):
            with pytest.raises(NotAllowed):
                await act(await here.socket(own, *READ), request_id)

    async def test_which_devices_exist_is_not_revealed(self, here: Replica) -> None:
        own = await here.paired(*READ, PAIRING)
        caller, door = await here.socket(own, *READ), here.registry
        for call in (
            door.device(caller, NOBODY),
            door.remove(caller, NOBODY),
            door.rename(caller, NOBODY, "label"),
        ):
            with pytest.raises(NotAllowed):
                await call

    async def test_a_device_token_reaches_its_own_device(self, here: Replica) -> None:
        own = await here.paired(*READ, PAIRING)
        caller, door = await here.socket(own, *READ), here.registry
        assert await door.rename(caller, own.device_id, "mine") == "mine"
        assert (await door.rotate(caller, own.device_id, "operator", READ)).scopes == READ
        caller = await here.socket(own, *READ)
        rejected = await here.request(own.asks(("operator.talk",)))
        assert await door.reject(caller, rejected.request_id) == own.device_id
        with pytest.raises(RequestOver):
            await door.approve(caller, rejected.request_id)
        await door.revoke(caller, own.device_id, "operator")
        with pytest.raises(MissingScope):
            await door.remove(caller, own.device_id)

    async def test_its_own_with_another_role(self, here: Replica) -> None:
        own = await here.paired(ADMIN)
        await here.pair(own, "node.run", role="node")
        caller, door = await here.socket(own, *READ), here.registry
        for call in (
            door.remove(caller, own.device_id),
            door.rename(caller, own.device_id, "mine"),
            door.rotate(caller, own.device_id, "node"),
            door.revoke(caller, own.device_id, "node"),
        ):
            with pytest.raises(NotAllowed):
                await call
        await door.remove(await here.socket(own, ADMIN), own.device_id)


class TestSharedSecret:
    async def test_any_device_is_rejected_removed_renamed(self, here: Replica) -> None:
        device = await here.paired(ADMIN)
        asked = await here.request(device.asks((), role="node"))
        caller, door = shared_secret(), here.registry
        assert await door.reject(caller, asked.request_id) == device.device_id
        assert await door.rename(caller, device.device_id, "label") == "label"
        await door.remove(caller, device.device_id)

    async def test_what_went_with_its_device_is_rejected_already(self, here: Replica) -> None:
        """`openclaw devices clear --pending` removes all devices, then rejects the listed requests."""
        device = await here.paired()
        asked = await here.request(device.asks((ADMIN,)))
        door = here.registry
        await door.remove(shared_secret(), device.device_id)
        last = (await door.audit(OPERATOR, asked.change.number, 10))[-1]
        for _ in range(2):
            assert await door.reject(shared_secret(), asked.request_id) == device.device_id
        assert (await door.audit(OPERATOR, asked.change.number, 10))[-1] == last

    async def test_an_unknown_device_is_reported_as_unknown(self, here: Replica) -> None:
        door = here.registry
        with pytest.raises(NotAllowed):
            await door.approve(shared_secret(), "unknown")
        for caller in (shared_secret(), OPERATOR):
            with pytest.raises(UnknownRequest):
                await door.reject(caller, "unknown")
            with pytest.raises(UnknownDevice):
                await door.remove(caller, NOBODY)
        with pytest.raises(UnknownRequest):
            await door.approve(OPERATOR, "unknown")


class TestTokensNeverExceedTheApproval:
    """A token never has more scopes than were approved, or than the caller holds."""

    async def test_a_token_wider_than_approved_is_refused(self, here: Replica) -> None:
        device = await here.paired(*READ, PAIRING)
        for caller in (OPERATOR, shared_secret(ADMIN), await here.socket(device, *READ)):
            with pytest.raises((InvalidScope, MissingScope)):
                await here.registry.rotate(caller, device.device_id, "operator", [ADMIN])
        (entry,) = await here.registry.devices(OPERATOR)
        assert set(entry.pairing.tokens["operator"].scopes) == {*READ, PAIRING}

    async def test_a_token_for_an_unapproved_role_is_refused(self, here: Replica) -> None:
        device = await here.paired(ADMIN)
        sockets = [await here.socket(device, *scopes) for scopes in ([ADMIN], READ)]
        for caller in (OPERATOR, *sockets):
            with pytest.raises((NotAllowed, UnknownRole)):
                await here.registry.rotate(caller, device.device_id, "node", [])

    async def test_the_token_of_a_device_with_more_scopes_is_not_rotated(
        self, here: Replica
    ) -> None:
        device = await here.paired(ADMIN)
        for scopes in (None, READ, [ADMIN]):
            with pytest.raises(MissingScope) as error:
                await here.registry.rotate(
                    shared_secret(*READ), device.device_id, "operator", scopes
                )
            assert error.value.scope == ADMIN
        with pytest.raises(MissingScope):
            await here.registry.revoke(shared_secret(*READ), device.device_id, "operator")
        await here.admit(device.asks((ADMIN,)))

    async def test_a_token_wider_than_the_callers_scopes_is_refused(self, here: Replica) -> None:
        device = await here.paired("operator.write", PAIRING)
        await here.registry.rotate(OPERATOR, device.device_id, "operator", READ)
        caller, door = await here.socket(device, *READ), here.registry
        with pytest.raises(MissingScope) as error:
            await door.rotate(caller, device.device_id, "operator", ["operator.write"])
        assert error.value.scope == "operator.write"
        assert (await door.rotate(caller, device.device_id, "operator", [])).scopes == ()
