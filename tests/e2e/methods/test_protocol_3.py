"""Results of methods in protocol 3, where they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from shared.device.profile import CLI, CLI_3
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
    Callers,
    found,
    invalid,
    listed_so,
)
from tools.support.actors import SimulatedDevice, pair

if TYPE_CHECKING:
    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack

LABEL: Final = "Kitchen Mac 2"


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two approvals and three gateways, for the whole module."""
    return start_stack(approvals=2, gateways=3, gateway_env={"BEAT_SECONDS": "0.3"})


class TestProtocol3:
    """The same rules in the wording and shapes of protocol 3."""

    async def test_results_have_the_shapes_of_protocol_3(
        self, stack: Stack, callers: Callers
    ) -> None:
        caller = await callers.enter(ADMINISTRATOR, stack.gateways[0], CLI_3)
        newer = await callers.enter(ADMINISTRATOR, stack.gateways[1])
        target = SimulatedDevice(stack, CLI_3)
        request_id = await target.request_pairing(stack.gateways[1])
        approved = await caller.call("device.pair.approve", requestId=request_id)
        await newer.call("device.pair.rename", deviceId=target.device_id, label=LABEL)
        await callers.stay(target, stack.gateways[2])
        full = await listed_so(
            newer,
            target.device_id,
            lambda item: item["connected"] and "lastSeenAtMs" in item,
            "connected",
        )
        listed = found((await caller.call("device.pair.list"))["paired"], target.device_id)
        later = {
            *("connected", "approvedVia", "lastSeenAtMs", "lastSeenReason"),
            "operatorLabel",
        }
        assert full.keys() - listed.keys() == later
        assert listed == {name: value for name, value in full.items() if name not in later}
        assert approved["device"].keys() & later == set()

    async def test_rotate_returns_what_protocol_3_expects(
        self, stack: Stack, callers: Callers
    ) -> None:
        caller = await callers.enter(DEVICE_TOKEN, stack.gateways[0], CLI_3)
        rotated = await caller.call(
            "device.token.rotate", deviceId=caller.device_id, role="operator"
        )
        assert rotated.keys() == {"deviceId", "role", "token", "scopes", "rotatedAtMs"}
        caller.device.token = rotated["token"]
        await caller.device.connect_once(stack.gateways[1], with_gateway_token=False)
        other = await callers.enter(ADMINISTRATOR, stack.gateways[0], CLI_3)
        rotated = await other.call(
            "device.token.rotate", deviceId=caller.device_id, role="operator"
        )
        assert rotated.keys() == {"deviceId", "role", "scopes", "rotatedAtMs"}

    @pytest.mark.parametrize(
        ("scopes", "message"),
        [
            ((ADMIN,), "unknown method: device.pair.rename"),
            ((READ, PAIRING), "missing scope: operator.admin"),
        ],
    )
    async def test_there_is_no_rename(
        self, stack: Stack, callers: Callers, scopes: tuple[str, ...], message: str
    ) -> None:
        caller = await callers.enter(SHARED_SECRET, stack.gateways[0], CLI_3, *scopes)
        error = await caller.fails("device.pair.rename", deviceId=caller.device_id, label=LABEL)
        assert error == invalid(message)

    async def test_approving_requires_holding_the_scopes(
        self, stack: Stack, callers: Callers
    ) -> None:
        caller = await callers.enter(SHARED_SECRET, stack.gateways[0], CLI_3)
        request_id = await SimulatedDevice(stack, CLI.with_scopes(WRITE)).request_pairing(
            stack.gateways[1]
        )
        error = await caller.fails("device.pair.approve", requestId=request_id)
        assert error == invalid("missing scope: operator.write")

    @pytest.mark.parametrize("kind", [SHARED_SECRET, ADMINISTRATOR])
    async def test_unknown_requests_and_devices_have_errors_of_protocol_3(
        self, stack: Stack, callers: Callers, kind: str
    ) -> None:
        caller = await callers.enter(kind, stack.gateways[0], CLI_3)
        for method in ("device.token.revoke", "device.token.rotate"):
            error = await caller.fails(method, deviceId=NOBODY, role="operator")
            assert error == invalid("unknown deviceId/role")
        error = await caller.fails("device.pair.remove", deviceId=NOBODY)
        assert error == invalid("unknown deviceId")

    async def test_a_device_learns_of_no_other(self, stack: Stack, callers: Callers) -> None:
        caller = await callers.enter(DEVICE_TOKEN, stack.gateways[0], CLI_3)
        other = await pair(stack)
        for device_id in (NOBODY, other.device_id):
            for method, word in (("rotate", "rotation"), ("revoke", "revocation")):
                error = await caller.fails(
                    f"device.token.{method}", deviceId=device_id, role="operator"
                )
                assert error == invalid(f"device token {word} denied")

    async def test_a_missing_scope_is_named(self, stack: Stack, callers: Callers) -> None:
        caller = await callers.enter(DEVICE_TOKEN, stack.gateways[0], CLI_3, READ)
        for method, method_row in METHODS.items():
            if method_row.scope == PAIRING and 3 in method_row.protocols:
                error = await caller.fails(method)
                assert error == invalid("missing scope: operator.pairing")
        only = await callers.enter(DEVICE_TOKEN, stack.gateways[0], CLI_3, PAIRING)
        assert await only.fails("status") == invalid("missing scope: operator.read")
