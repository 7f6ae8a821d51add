"""The table of who may do what, as the pure functions implement it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from services.approval.domain import authorization
from services.approval.domain.authorization import OPERATOR, Caller
from services.approval.domain.errors import MissingScope, NotAllowed
from services.approval.domain.records import Metadata, Pairing, Pending, Record
from tests.support.approval.callers import device_token, shared_secret
from tests.support.approval.devices import Device

if TYPE_CHECKING:
    from collections.abc import Callable

READ, WRITE, ADMIN, PAIRING = (f"operator.{name}" for name in ("read", "write", "admin", "pairing"))
OWN, OTHER = Device.new(), Device.new()
METADATA = Metadata("cli", "cli", "linux")
CALLERS = {
    "operator": OPERATOR,
    "shared-secret": shared_secret(READ),
    "shared-secret admin": shared_secret(ADMIN),
    "device-token": device_token(OWN, READ),
    "device-token admin": device_token(OWN, ADMIN),
}
EVERYBODY = set(CALLERS)
ADMINS = {"operator", "shared-secret admin", "device-token admin"}
NOT_CONFINED = ADMINS | {"shared-secret"}


def allowed(act: Callable[[Caller], object]) -> set[str]:
    """Return which callers may do this."""
    found = set()
    for name, caller in CALLERS.items():
        try:
            act(caller)
        except NotAllowed:
            continue
        found.add(name)
    return found


def pending(*roles: str) -> Pending:
    """Return a request for some roles."""
    return Pending("r", "not-paired", roles[-1], roles, (), METADATA, "loopback", 0, 0)


def unpaired(device: Device) -> Record:
    """Return the record of a device that is not paired."""
    return Record(device.device_id, device.public_key)


def pairing(*roles: str) -> Pairing:
    """Return a pairing for some roles."""
    return Pairing(METADATA, roles[-1], roles, (), {}, 0, 0)


class TestMethods:
    @pytest.mark.parametrize("scopes", [(), (READ,), (WRITE,), ("node.pairing",), ("*",)])
    def test_all_need_the_pairing_scope(self, scopes: tuple[str, ...]) -> None:
        for kind in ("shared-secret", "device-token"):
            with pytest.raises(MissingScope) as error:
                authorization.require_pairing(Caller(kind, "x", scopes))
            assert error.value.scope == PAIRING

    @pytest.mark.parametrize("scope", [PAIRING, ADMIN])
    def test_each_scope_that_covers_pairing_is_enough(self, scope: str) -> None:
        authorization.require_pairing(Caller("shared-secret", "x", (scope,)))


class TestLists:
    def test_everybody_sees_their_own_device(self) -> None:
        seen = {
            name for name, item in CALLERS.items() if authorization.can_see(item, OWN.device_id)
        }
        assert seen == EVERYBODY

    def test_only_unconfined_callers_see_other_devices(self) -> None:
        seen = {
            name for name, item in CALLERS.items() if authorization.can_see(item, OTHER.device_id)
        }
        assert seen == NOT_CONFINED


class TestApprove:
    @pytest.mark.parametrize(
        ("device", "roles", "to_hold", "who"),
        [
            (OWN, ("operator",), [READ], EVERYBODY),
            (OTHER, ("operator",), [READ], NOT_CONFINED),
            (OWN, ("operator",), [], EVERYBODY),
            (OWN, ("operator",), [READ, PAIRING], EVERYBODY),
            (OWN, ("operator",), [READ, WRITE], ADMINS),
            (OWN, ("operator",), [ADMIN], ADMINS),
            (OWN, ("node",), [], ADMINS),
            (OWN, ("operator", "node"), [READ], ADMINS),
            (OTHER, ("node", "operator"), [READ], ADMINS),
        ],
    )
    def test_only_callers_with_the_rights_may_approve(
        self, device: Device, roles: tuple[str, ...], to_hold: list[str], who: set[str]
    ) -> None:
        request = replace(pending(*roles), scopes=tuple(to_hold))
        assert who == allowed(
            lambda item: authorization.require_approve(item, unpaired(device), request)
        )

    def test_the_first_missing_scope_is_named(self) -> None:
        request = replace(pending("operator"), scopes=(READ, WRITE, ADMIN))
        with pytest.raises(MissingScope) as error:
            authorization.require_approve(shared_secret(READ), unpaired(OWN), request)
        assert error.value.scope == WRITE


class TestRemoveAndRename:
    @pytest.mark.parametrize(
        ("device", "roles", "who"),
        [
            (OWN, ("operator",), EVERYBODY),
            (OTHER, ("operator",), NOT_CONFINED),
            (OWN, ("node",), NOT_CONFINED),
            (OWN, ("operator", "node"), NOT_CONFINED),
            (OTHER, ("node",), NOT_CONFINED),
        ],
    )
    def test_only_callers_with_the_rights_may_remove_and_rename(
        self, device: Device, roles: tuple[str, ...], who: set[str]
    ) -> None:
        known = pairing(*roles)
        assert who == allowed(
            lambda item: authorization.require_manage(item, device.device_id, known)
        )

    @pytest.mark.parametrize(("device", "who"), [(OWN, EVERYBODY), (OTHER, NOT_CONFINED)])
    def test_who_before_it_is_known_what_there_is(self, device: Device, who: set[str]) -> None:
        assert who == allowed(
            lambda item: authorization.require_manage(item, device.device_id, None)
        )


class TestRotateAndRevoke:
    @pytest.mark.parametrize(
        ("device", "role", "held", "wanted", "who"),
        [
            (OWN, "operator", [READ], [READ], EVERYBODY),
            (OWN, "operator", [READ], [], EVERYBODY),
            (OTHER, "operator", [READ], [], NOT_CONFINED),
            (OWN, "operator", [WRITE], [], ADMINS),
            (OWN, "operator", [READ], [WRITE], ADMINS),
            (OWN, "operator", [ADMIN, READ], [READ], ADMINS),
            (OWN, "node", [], [], ADMINS),
            (OTHER, "node", ["node.run"], [], ADMINS),
        ],
    )
    def test_only_callers_with_the_rights_may_rotate_and_revoke(
        self, device: Device, role: str, held: list[str], wanted: list[str], who: set[str]
    ) -> None:
        assert who == allowed(
            lambda item: authorization.require_token(item, device.device_id, role, held, wanted)
        )


class TestRemovingNodes:
    def test_a_device_that_is_a_node_alone_may_be_removed_by_all_who_manage_devices(self) -> None:
        def act(caller: Caller) -> None:
            authorization.require_remove_node(caller, pairing("node"))

        assert allowed(act) == EVERYBODY

    def test_the_node_role_of_an_operators_device_is_taken_by_admins_alone(self) -> None:
        def act(caller: Caller) -> None:
            authorization.require_remove_node(caller, pairing("node", "operator"))

        assert allowed(act) == ADMINS
