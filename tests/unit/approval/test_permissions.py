"""Which permission each operation of the HTTP API needs. A new operation has to be added here."""

from __future__ import annotations

from typing import Any

import pytest

from services.approval.api.operations import OPERATIONS, Operation
from services.approval.domain.authorization import (
    OPERATOR,
    Caller,
    operator_caller,
    require_permission,
)
from services.approval.domain.errors import NotAllowed
from services.approval.domain.permissions import Permission, permission_of
from services.approval.schemas.sessions import EndedSession

VIEW = {
    "listRequests",
    "listDevices",
    "getDevice",
    "readAudit",
    "followEvents",
    "listReplicas",
    "listRefusals",
    "listLockouts",
    "listWebhooks",
    "listRules",
    "listSetupCodes",
    "getSetupCode",
    "openSession",
    "readSession",
    "endSession",
}
DECIDE = {
    "createSetupCode",
    "revokeSetupCode",
    "revokeSetupCodes",
    "approveRequest",
    "rejectRequest",
    "rejectRequests",
    "renameDevice",
    "removeDevice",
    "rotateToken",
    "revokeToken",
    "liftLockout",
}
MANAGE = {
    "addRule",
    "removeRule",
    "tryRule",
    "listOperators",
    "createOperator",
    "testWebhook",
    "revokeOperator",
    "readBackup",
    "importPart",
    "restorePart",
}


def test_every_operation_needs_the_permission_listed_here() -> None:
    found: dict[Permission, set[str]] = {permission: set() for permission in Permission}
    for operation in OPERATIONS:
        found[operation.permission].add(operation.id)
    assert found == {
        Permission.VIEW: VIEW,
        Permission.DECIDE: DECIDE,
        Permission.MANAGE: MANAGE,
    }


def test_only_a_session_may_change_something_without_the_permission_to_decide() -> None:
    changing = {one.id for one in OPERATIONS if one.changes and one.permission < Permission.DECIDE}
    assert changing == {"openSession", "endSession"}


def test_an_operation_that_declares_no_permission_cannot_be_made() -> None:
    make: Any = Operation
    with pytest.raises(TypeError, match="permission"):
        make("mayAnybody", "GET", "/v1/anybody", "It is not decided who may", EndedSession)


def test_every_operation_above_view_documents_its_refusal() -> None:
    for operation in OPERATIONS:
        refuses = "not-allowed" in {kind.name for kind in operation.problems}
        assert refuses == (operation.permission > Permission.VIEW), operation.id


@pytest.mark.parametrize("held", Permission)
@pytest.mark.parametrize("needed", Permission)
def test_each_permission_includes_those_before_it(held: Permission, needed: Permission) -> None:
    caller = operator_caller("somebody", held)
    if held >= needed:
        require_permission(caller, needed)
    else:
        with pytest.raises(NotAllowed):
            require_permission(caller, needed)


def test_an_operator_without_a_stated_permission_may_only_view() -> None:
    caller = Caller("operator", "operator:somebody", ("operator.admin",))
    require_permission(caller, Permission.VIEW)
    with pytest.raises(NotAllowed):
        require_permission(caller, Permission.DECIDE)


def test_the_admin_token_holds_every_permission_and_has_a_name() -> None:
    assert (OPERATOR.name, OPERATOR.permission) == ("operator:admin", Permission.MANAGE)


def test_names_of_permissions() -> None:
    assert [one.label for one in Permission] == ["view", "decide", "manage"]
    assert [permission_of(one.label) for one in Permission] == list(Permission)
    assert permission_of("MANAGE") is permission_of("") is permission_of("admin") is None
