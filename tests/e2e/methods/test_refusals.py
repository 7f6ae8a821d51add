"""Every error of the device methods, for each class of callers, over a socket."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from shared.device.profile import CLI, NODE_HOST
from shared.protocol.methods import METHODS
from tests.e2e.callers import (
    ADMIN,
    ADMINISTRATOR,
    DEVICE_TOKEN,
    NOBODY,
    PAIRING,
    READ,
    SHARED_SECRET,
    WRITE,
    add_role,
    approve,
    every_class,
)
from tools.support.actors import Operator, SimulatedDevice, pair

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.conftest import StartStack
    from tests.e2e.callers import Caller, Callers
    from tools.support.processes.stack import Stack

    Situation = Callable[[Caller], Awaitable[dict[str, Any]]]

APPROVE, REJECT = "device.pair.approve", "device.pair.reject"
REMOVE, RENAME = "device.pair.remove", "device.pair.rename"
ROTATE, REVOKE = "device.token.rotate", "device.token.revoke"
DENIED: Final = {
    APPROVE: "device pairing approval denied",
    REJECT: "device pairing rejection denied",
    REMOVE: "device pairing removal denied",
    RENAME: "device pairing rename denied",
    ROTATE: "device token rotation denied",
    REVOKE: "device token revocation denied",
}
UNKNOWN_REQUEST: Final = "unknown requestId"
UNKNOWN_DEVICE: Final = "unknown deviceId"
FOREIGN_SCOPE: Final = "invalid scope for requested roles: node.run"


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two approvals and three gateways, for the whole module."""
    return start_stack(approvals=2, gateways=3)


def elsewhere(caller: Caller, *scopes: str, node: bool = False) -> SimulatedDevice:
    """Return another device, with a pending request."""
    return SimulatedDevice(caller.device.stack, NODE_HOST if node else CLI.with_scopes(*scopes))


async def asked(device: SimulatedDevice) -> dict[str, Any]:
    """Send a device's request at a gateway other than the caller's."""
    return {"requestId": await device.request_pairing(device.stack.gateways[1])}


# Requests.


async def an_unknown_request(_caller: Caller) -> dict[str, Any]:
    return {"requestId": "unknown"}


async def anothers_request(caller: Caller) -> dict[str, Any]:
    return await asked(elsewhere(caller, READ))


async def anothers_wider_request(caller: Caller) -> dict[str, Any]:
    return await asked(elsewhere(caller, READ, WRITE))


async def anothers_node_request(caller: Caller) -> dict[str, Any]:
    return await asked(elsewhere(caller, node=True))


async def a_request_with_a_foreign_scope(caller: Caller) -> dict[str, Any]:
    return await asked(elsewhere(caller, READ, "node.run"))


async def an_approved_request(caller: Caller) -> dict[str, Any]:
    params = await anothers_request(caller)
    await approve(caller.device.stack, params["requestId"])
    return params


async def a_superseded_request(caller: Caller) -> dict[str, Any]:
    device = elsewhere(caller, READ)
    params = await asked(device)
    await asked(device.with_scopes(READ, WRITE))
    return params


async def its_own_wider_request(caller: Caller) -> dict[str, Any]:
    return await asked(caller.device.with_scopes(READ, WRITE))


async def its_own_node_request(caller: Caller) -> dict[str, Any]:
    return await asked(replace(caller.device, profile=NODE_HOST))


# Devices.


def about(device_id: str, role: str = "", **more: Any) -> dict[str, Any]:
    return {"deviceId": device_id, **({"role": role} if role else {}), **more}


async def an_unknown_device(_caller: Caller) -> dict[str, Any]:
    return about(NOBODY)


async def another_device(caller: Caller) -> dict[str, Any]:
    return about((await pair(caller.device.stack)).device_id)


async def itself_as_a_node_too(caller: Caller) -> dict[str, Any]:
    await add_role(caller.device, NODE_HOST)
    return about(caller.device_id)


# Tokens.


async def an_unknown_devices_token(_caller: Caller) -> dict[str, Any]:
    return about(NOBODY, "operator")


async def anothers_token(caller: Caller) -> dict[str, Any]:
    return about((await pair(caller.device.stack)).device_id, "operator")


async def anothers_wider_token(caller: Caller) -> dict[str, Any]:
    other = await pair(caller.device.stack, CLI.with_scopes(WRITE))
    return about(other.device_id, "operator")


async def anothers_node_token(caller: Caller) -> dict[str, Any]:
    return about((await pair(caller.device.stack, NODE_HOST)).device_id, "node")


async def its_own_node_token(caller: Caller) -> dict[str, Any]:
    await add_role(caller.device, NODE_HOST)
    return about(caller.device_id, "node")


async def a_role_it_does_not_have(caller: Caller) -> dict[str, Any]:
    return about(caller.device_id, "node")


async def a_role_that_is_none(caller: Caller) -> dict[str, Any]:
    return about(caller.device_id, "worker")


async def a_revoked_token(caller: Caller) -> dict[str, Any]:
    other = await pair(caller.device.stack)
    async with Operator(caller.device.stack, caller.device.stack.approvals[0]) as operator:
        (await operator.revoke(other.device_id)).ok()
    return about(other.device_id, "operator")


async def its_own_token_in_wider_scopes(caller: Caller) -> dict[str, Any]:
    wider = "node.run" if ADMIN in caller.device.profile.scopes else WRITE  # type: ignore[operator]
    return about(caller.device_id, "operator", scopes=[READ, wider])


async def anothers_token_in_wider_scopes(caller: Caller) -> dict[str, Any]:
    other = await pair(caller.device.stack, CLI.with_scopes(READ, PAIRING))
    return about(other.device_id, "operator", scopes=[ADMIN])


TABLE: Final[list[tuple[str, Situation, tuple[str | None, str | None, str | None]]]] = [
    # Errors for a device token, the gateway token and an admin; `denied`: the method's own text.
    (APPROVE, an_unknown_request, ("denied", "denied", UNKNOWN_REQUEST)),
    (APPROVE, an_approved_request, ("denied", "denied", UNKNOWN_REQUEST)),
    (APPROVE, a_superseded_request, ("denied", "denied", UNKNOWN_REQUEST)),
    (APPROVE, anothers_request, ("denied", None, None)),
    (APPROVE, anothers_wider_request, ("denied", f"missing scope: {WRITE}", None)),
    (APPROVE, anothers_node_request, ("denied", "denied", None)),
    (APPROVE, a_request_with_a_foreign_scope, ("denied", FOREIGN_SCOPE, FOREIGN_SCOPE)),
    (APPROVE, its_own_wider_request, (f"missing scope: {WRITE}",) * 2 + (None,)),
    (APPROVE, its_own_node_request, ("denied", "denied", None)),
    (REJECT, an_unknown_request, ("denied", UNKNOWN_REQUEST, UNKNOWN_REQUEST)),
    (REJECT, an_approved_request, ("denied", UNKNOWN_REQUEST, UNKNOWN_REQUEST)),
    (REJECT, a_superseded_request, ("denied", UNKNOWN_REQUEST, UNKNOWN_REQUEST)),
    (REJECT, anothers_request, ("denied", None, None)),
    *(
        row
        for method in (REMOVE, RENAME)
        for row in (
            (method, an_unknown_device, ("denied", UNKNOWN_DEVICE, UNKNOWN_DEVICE)),
            (method, another_device, ("denied", None, None)),
            (method, itself_as_a_node_too, ("denied", None, None)),
        )
    ),
    *(
        row
        for method in (ROTATE, REVOKE)
        for row in (
            (method, an_unknown_devices_token, ("denied", "denied", "denied")),
            (method, anothers_token, ("denied", None, None)),
            (method, anothers_wider_token, ("denied", "denied", None)),
            (method, anothers_node_token, ("denied", "denied", None)),
            (method, its_own_node_token, ("denied", "denied", None)),
            (method, a_role_it_does_not_have, ("denied", "denied", "denied")),
            (method, a_role_that_is_none, ("denied", "denied", "denied")),
        )
    ),
    (ROTATE, a_revoked_token, ("denied", "denied", "denied")),
    (ROTATE, its_own_token_in_wider_scopes, ("denied", "denied", "denied")),
    (ROTATE, anothers_token_in_wider_scopes, ("denied", "denied", "denied")),
]
ROWS: Final = [
    pytest.param(method, situation, kind, said, id=f"{method} {situation.__name__} {kind}")
    for method, situation, told in TABLE
    for kind, said in zip((DEVICE_TOKEN, SHARED_SECRET, ADMINISTRATOR), told, strict=True)
    if said is not None
]


class TestAuthorisation:
    @pytest.mark.parametrize(("method", "situation", "kind", "expected"), ROWS)
    async def test_each_caller_class_gets_its_documented_error(
        self,
        stack: Stack,
        callers: Callers,
        *,
        method: str,
        situation: Situation,
        kind: str,
        expected: str,
    ) -> None:
        caller = await callers.enter(kind, stack.gateways[0])
        params = await situation(caller)
        if method == RENAME:
            params["label"] = "a label"
        async with Operator(stack, stack.approvals[1]) as operator:
            before = await operator.audit(params.get("deviceId", caller.device_id))
            error = await caller.fails(method, **params)
            message = DENIED[method] if expected == "denied" else expected
            assert error == {"code": "INVALID_REQUEST", "message": message}
            assert await operator.audit(params.get("deviceId", caller.device_id)) == before


class TestLabels:
    @every_class
    async def test_a_blank_name_is_refused(self, stack: Stack, callers: Callers, kind: str) -> None:
        caller = await callers.enter(kind, stack.gateways[0])
        for label in (" ", "\t\n"):
            error = await caller.fails(RENAME, deviceId=caller.device_id, label=label)
            assert error == {"code": "INVALID_REQUEST", "message": "label required"}

    async def test_a_blank_label_for_another_device_is_denied_too(
        self, stack: Stack, callers: Callers
    ) -> None:
        caller = await callers.enter(DEVICE_TOKEN, stack.gateways[0])
        error = await caller.fails(RENAME, deviceId=NOBODY, label=" ")
        assert error == {"code": "INVALID_REQUEST", "message": DENIED[RENAME]}


class TestScope:
    @pytest.mark.parametrize("kind", [DEVICE_TOKEN, SHARED_SECRET])
    async def test_without_pairing_there_is_no_device_method(
        self, stack: Stack, callers: Callers, kind: str
    ) -> None:
        caller = await callers.enter(kind, stack.gateways[0], CLI, READ, WRITE)
        for method in (name for name, item in METHODS.items() if item.scope == PAIRING):
            assert await caller.fails(method) == {
                "code": "FORBIDDEN",
                "message": f"missing scope: {PAIRING}",
                "details": {
                    "code": "MISSING_SCOPE",
                    "missingScope": PAIRING,
                    "requiredScopes": [PAIRING],
                },
            }

    async def test_a_node_may_call_no_method_but_health(
        self, stack: Stack, callers: Callers
    ) -> None:
        node = await callers.stay(await pair(stack, NODE_HOST), stack.gateways[0])
        for method in (name for name in METHODS if name != "health"):
            error = await node.fails(method)
            assert error == {"code": "INVALID_REQUEST", "message": "unauthorized role: node"}
            assert (await node.client.call("health")).ok


class TestParams:
    """One case of each kind end to end; the gateway's own tests cover all rows."""

    @pytest.mark.parametrize(
        ("method", "params", "problem"),
        [
            (APPROVE, {}, "must have required property 'requestId'"),
            (APPROVE, {"requestId": "r", "x": 1}, "at root: unexpected property 'x'"),
            (
                RENAME,
                {"deviceId": NOBODY, "label": "x" * 65},
                "at /label: must not have more than 64 characters",
            ),
        ],
    )
    async def test_missing_scopes_are_named(
        self, stack: Stack, callers: Callers, method: str, params: dict[str, Any], problem: str
    ) -> None:
        caller = await callers.enter(DEVICE_TOKEN, stack.gateways[0])
        assert await caller.fails(method, **params) == {
            "code": "INVALID_REQUEST",
            "message": f"invalid {method} params: {problem}",
        }
        without = await caller.client.call(APPROVE)
        assert without.error == {
            "code": "INVALID_REQUEST",
            "message": f"invalid {APPROVE} params: must have required property 'requestId'",
        }
