"""Callers can approve only scopes that they hold themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.approval.domain.authorization import OPERATOR, Caller
from services.approval.domain.errors import MissingScope, NotAllowed
from tests.support.approval.callers import shared_secret
from tests.support.approval.devices import READ, Device

if TYPE_CHECKING:
    from tests.integration.approval.replica import Replica

ADMIN = "operator.admin"
PAIRING = "operator.pairing"


class TestApproversGrantOnlyWhatTheyHold:
    @pytest.mark.parametrize("missing", [ADMIN, "operator.write", "operator.approvals"])
    async def test_a_scope_the_caller_lacks_cannot_be_approved(
        self, here: Replica, missing: str
    ) -> None:
        asked = await here.request(Device.new().asks((*READ, missing)))
        for caller in (shared_secret(*READ), shared_secret()):
            with pytest.raises(MissingScope) as error:
                await here.registry.approve(caller, asked.request_id)
            assert error.value.scope in {missing, *READ}
        assert not await here.registry.audit(OPERATOR, asked.change.number, 10)
        assert await here.registry.pending(OPERATOR)

    async def test_scopes_the_caller_holds_can_be_approved(self, here: Replica) -> None:
        device = Device.new()
        asked = await here.request(device.asks((*READ, PAIRING)))
        await here.registry.approve(shared_secret("operator.write"), asked.request_id)
        await here.admit(device.asks(READ))

    @pytest.mark.parametrize("scopes", [(), ("operator.read",), ("operator.write",)])
    async def test_without_the_pairing_scope_every_call_is_refused(
        self, here: Replica, scopes: tuple[str, ...]
    ) -> None:
        device = await here.paired()
        asked = await here.request(device.asks((ADMIN,)))
        caller, door = Caller("shared-secret", "somebody", scopes), here.registry
        for call in (
            door.pending(caller),
            door.devices(caller),
            door.device(caller, device.device_id),
            door.approve(caller, asked.request_id),
            door.reject(caller, asked.request_id),
            door.remove(caller, device.device_id),
            door.rename(caller, device.device_id, "label"),
            door.rotate(caller, device.device_id, "operator"),
            door.revoke(caller, device.device_id, "operator"),
        ):
            with pytest.raises(MissingScope) as error:
                await call
            assert error.value.scope == PAIRING
        with pytest.raises(NotAllowed):
            await door.audit(caller, 0, 10)
        assert not await here.registry.audit(OPERATOR, asked.change.number, 10)

    @pytest.mark.parametrize(
        "roles", [("node",), ("node", "operator"), ("operator", "node")], ids=str
    )
    async def test_a_request_for_another_role_cannot_be_approved(
        self, here: Replica, roles: tuple[str, ...]
    ) -> None:
        device = Device.new()
        *_, asked = [await here.request(device.asks((), role=role)) for role in roles]
        for caller in (shared_secret(*READ), await here.socket(device, *READ)):
            with pytest.raises(NotAllowed):
                await here.registry.approve(caller, asked.request_id)
        await here.registry.approve(shared_secret(ADMIN), asked.request_id)

    async def test_restoring_a_revoked_role_requires_all_its_scopes(self, here: Replica) -> None:
        """The request is modest, but its approval would restore an administrator."""
        device = await here.paired(ADMIN)
        await here.registry.revoke(OPERATOR, device.device_id, "operator")
        asked = await here.request(device.asks(READ))
        with pytest.raises(MissingScope) as error:
            await here.registry.approve(shared_secret(*READ), asked.request_id)
        assert error.value.scope == ADMIN
        await here.registry.approve(OPERATOR, asked.request_id)

    async def test_approving_a_changed_administrator_requires_its_scopes(
        self, here: Replica
    ) -> None:
        device = await here.paired(ADMIN)
        asked = await here.request(device.asks(READ, platform="windows"))
        with pytest.raises(MissingScope) as error:
            await here.registry.approve(shared_secret(*READ), asked.request_id)
        assert error.value.scope == ADMIN

    async def test_asking_for_no_scopes_inherits_them(self, here: Replica) -> None:
        device = await here.paired(ADMIN)
        await here.registry.revoke(OPERATOR, device.device_id, "operator")
        asked = await here.request(device.asks(()))
        with pytest.raises(MissingScope) as error:
            await here.registry.approve(shared_secret(*READ), asked.request_id)
        assert error.value.scope == ADMIN

    async def test_an_upgrade_requires_only_the_added_scopes(self, here: Replica) -> None:
        """Scopes that the device already has are not required of the approver."""
        device = await here.paired("operator.approvals")
        asked = await here.request(device.asks(READ))
        assert asked.reason == "scope-upgrade"
        await here.registry.approve(shared_secret(*READ), asked.request_id)
        await here.admit(device.asks(READ))
