"""The device methods over a socket: results and order, across replicas."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from shared.device.handshake import request
from shared.device.profile import CLI, NODE_HOST
from tests.e2e.callers import (
    ADMIN,
    ADMINISTRATOR,
    DEVICE_TOKEN,
    PAIRING,
    READ,
    SHARED_SECRET,
    WRITE,
    Callers,
    add_role,
    both_protocols,
    every_class,
    found,
    recent,
    said_until_close,
    said_until_response,
)
from tools.support.actors import SimulatedDevice, pair

if TYPE_CHECKING:
    from shared.device.profile import Profile
    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack

CLOSED_SECONDS: Final = 5.0
"""Time limit for closing a removed device's socket, with reserve for a loaded machine."""
REMOVED: Final = (4001, "device removed")
LABEL: Final = "Kitchen Mac 2"


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two approvals and three gateways, for the whole module."""
    return start_stack(approvals=2, gateways=3, gateway_env={"BEAT_SECONDS": "0.3"})


class TestApprove:
    @pytest.mark.parametrize("kind", [SHARED_SECRET, ADMINISTRATOR, "device-token admin"])
    async def test_a_device_that_asked_elsewhere_is_admitted(
        self, stack: Stack, callers: Callers, kind: str
    ) -> None:
        caller = await callers.enter(kind, stack.gateways[0])
        target = SimulatedDevice(stack)
        request_id = await target.request_pairing(stack.gateways[1])
        approved = await caller.call("device.pair.approve", requestId=request_id)
        device = approved["device"]
        assert approved == {
            "requestId": request_id,
            "device": {
                "deviceId": target.device_id,
                "publicKey": target.key.public_key,
                "platform": "linux",
                "deviceFamily": "Linux",
                "clientId": "cli",
                "clientMode": "cli",
                "role": "operator",
                "roles": ["operator"],
                "scopes": [READ],
                "approvedVia": "owner",
                "createdAtMs": device["approvedAtMs"],
                "approvedAtMs": device["approvedAtMs"],
                "tokens": [
                    {
                        "role": "operator",
                        "scopes": [READ],
                        "createdAtMs": device["approvedAtMs"],
                    }
                ],
            },
        }
        assert recent(device["approvedAtMs"])
        await target.connect_once(stack.gateways[2])
        lists = await caller.call("device.pair.list")
        assert target.device_id not in [item["deviceId"] for item in lists["pending"]]

    async def test_a_device_that_holds_everything_in_its_request_may_approve_it(
        self, stack: Stack, callers: Callers
    ) -> None:
        """The request has other metadata, and no scope that the device lacks."""
        caller = await callers.enter(DEVICE_TOKEN, stack.gateways[0])
        changed = replace(caller.device, profile=replace(caller.device.profile, platform="another"))
        request_id = await changed.request_pairing(stack.gateways[1])
        approved = await caller.call("device.pair.approve", requestId=request_id)
        assert approved["device"]["platform"] == "another"
        await changed.connect_once(stack.gateways[2])


class TestReject:
    @pytest.mark.parametrize("kind", [SHARED_SECRET, ADMINISTRATOR])
    async def test_a_rejected_request_ends(self, stack: Stack, callers: Callers, kind: str) -> None:
        caller = await callers.enter(kind, stack.gateways[0])
        target = SimulatedDevice(stack, NODE_HOST)
        request_id = await target.request_pairing(stack.gateways[1])
        rejected = await caller.call("device.pair.reject", requestId=request_id)
        assert rejected == {"requestId": request_id, "deviceId": target.device_id}
        assert await target.request_pairing(stack.gateways[2]) != request_id

    async def test_a_device_rejects_its_own_request(self, stack: Stack, callers: Callers) -> None:
        caller = await callers.enter(DEVICE_TOKEN, stack.gateways[0])
        request_id = await caller.device.with_scopes(WRITE).request_pairing(stack.gateways[1])
        rejected = await caller.call("device.pair.reject", requestId=request_id)
        assert rejected == {"requestId": request_id, "deviceId": caller.device_id}


class TestRename:
    @every_class
    async def test_a_new_name_is_seen_everywhere(
        self, stack: Stack, callers: Callers, kind: str
    ) -> None:
        caller = await callers.enter(kind, stack.gateways[0])
        target = caller.device if kind == DEVICE_TOKEN else await pair(stack)
        renamed = await caller.call(
            "device.pair.rename", deviceId=target.device_id, label=f"  {LABEL}\n"
        )
        assert renamed == {"deviceId": target.device_id, "label": LABEL}
        again = await callers.stay(caller.device, stack.gateways[2])
        listed = (await again.call("device.pair.list"))["paired"]
        assert found(listed, target.device_id)["operatorLabel"] == LABEL

    async def test_the_label_survives_a_new_approval(self, stack: Stack, callers: Callers) -> None:
        caller = await callers.enter(ADMINISTRATOR, stack.gateways[0])
        target = await pair(stack)
        await caller.call("device.pair.rename", deviceId=target.device_id, label="x" * 64)
        request_id = await target.with_scopes(WRITE).request_pairing(stack.gateways[1])
        approved = await caller.call("device.pair.approve", requestId=request_id)
        assert approved["device"]["operatorLabel"] == "x" * 64


class TestRemove:
    @both_protocols
    @pytest.mark.parametrize("kind", [SHARED_SECRET, ADMINISTRATOR])
    async def test_removing_a_device_closes_its_sockets_on_every_gateway(
        self, stack: Stack, callers: Callers, kind: str, profile: Profile
    ) -> None:
        caller = await callers.enter(kind, stack.gateways[0], profile)
        target = await pair(stack)
        inside = [await callers.stay(target, gateway) for gateway in stack.gateways]
        removed = await caller.call("device.pair.remove", deviceId=target.device_id)
        assert removed == {"deviceId": target.device_id}
        assert {await client.client.closed(within=CLOSED_SECONDS) for client in inside} == {REMOVED}
        refused = await target.expect_refusal(stack.gateways[1], with_gateway_token=False)
        assert refused.detail_code == "AUTH_DEVICE_TOKEN_MISMATCH"
        await target.request_pairing(stack.gateways[2])


class TestRotate:
    @pytest.mark.parametrize("kind", [SHARED_SECRET, ADMINISTRATOR, "device-token admin"])
    async def test_rotation_of_another_device_withholds_the_token(
        self, stack: Stack, callers: Callers, kind: str
    ) -> None:
        caller = await callers.enter(kind, stack.gateways[0])
        target = await pair(stack, CLI.with_scopes(READ, PAIRING))
        inside = [await callers.stay(target, gateway) for gateway in stack.gateways]
        rotated = await caller.call(
            "device.token.rotate", deviceId=target.device_id, role="operator"
        )
        assert rotated == {
            "deviceId": target.device_id,
            "role": "operator",
            "scopes": sorted([READ, PAIRING]),
            "rotatedAtMs": rotated["rotatedAtMs"],
            "tokenDelivery": "withheld-cross-device",
        }
        assert recent(rotated["rotatedAtMs"])
        assert {await client.client.closed(within=CLOSED_SECONDS) for client in inside} == {REMOVED}
        listed = found((await caller.call("device.pair.list"))["paired"], target.device_id)
        assert listed["tokens"][0]["rotatedAtMs"] == rotated["rotatedAtMs"]
        refused = await target.expect_refusal(stack.gateways[1], with_gateway_token=False)
        assert refused.detail_code == "AUTH_DEVICE_TOKEN_MISMATCH"
        await target.connect_once(stack.gateways[2])

    @pytest.mark.parametrize("kind", [DEVICE_TOKEN, "device-token admin"])
    async def test_a_device_that_rotates_its_own_token_gets_a_valid_one(
        self, stack: Stack, callers: Callers, kind: str
    ) -> None:
        caller = await callers.enter(kind, stack.gateways[0])
        device, old = caller.device, caller.device.token
        rotated = await caller.call(
            "device.token.rotate", deviceId=device.device_id, role="operator", scopes=[READ]
        )
        assert rotated == {
            "deviceId": device.device_id,
            "role": "operator",
            "token": rotated["token"],
            "scopes": [READ],
            "rotatedAtMs": rotated["rotatedAtMs"],
            "tokenDelivery": "in-band",
        }
        assert len(rotated["token"]) == len(old) == 43
        assert await caller.client.closed(within=CLOSED_SECONDS) == REMOVED
        refused = await device.expect_refusal(stack.gateways[1], with_gateway_token=False)
        assert refused.detail_code == "AUTH_DEVICE_TOKEN_MISMATCH"
        device.token = rotated["token"]
        refused = await device.expect_refusal(stack.gateways[1], with_gateway_token=False)
        assert refused.detail_code == "AUTH_SCOPE_MISMATCH", "it may only read now"
        narrow = device.with_scopes(READ)
        admitted = await narrow.connect_once(stack.gateways[2], with_gateway_token=False)
        assert admitted.device_token == rotated["token"]

    async def test_rotation_with_the_gateway_token_withholds_the_token(
        self, stack: Stack, callers: Callers
    ) -> None:
        caller = await callers.enter(SHARED_SECRET, stack.gateways[0])
        rotated = await caller.call(
            "device.token.rotate", deviceId=caller.device_id, role="operator"
        )
        assert "token" not in rotated
        assert rotated["tokenDelivery"] == "withheld-cross-device"

    async def test_an_admin_may_rotate_the_token_of_a_node(
        self, stack: Stack, callers: Callers
    ) -> None:
        caller = await callers.enter(ADMINISTRATOR, stack.gateways[0])
        node = await pair(stack, NODE_HOST)
        inside = await callers.stay(node, stack.gateways[1])
        rotated = await caller.call("device.token.rotate", deviceId=node.device_id, role="node")
        assert rotated["scopes"] == []
        assert await inside.client.closed(within=CLOSED_SECONDS) == REMOVED


class TestRevoke:
    @pytest.mark.parametrize("kind", [SHARED_SECRET, ADMINISTRATOR])
    async def test_revoking_closes_sockets_and_requires_a_new_approval(
        self, stack: Stack, callers: Callers, kind: str
    ) -> None:
        caller = await callers.enter(kind, stack.gateways[0])
        target = await pair(stack)
        inside = [await callers.stay(target, gateway) for gateway in stack.gateways]
        revoked = await caller.call(
            "device.token.revoke", deviceId=target.device_id, role="operator"
        )
        assert revoked == {
            "deviceId": target.device_id,
            "role": "operator",
            "revokedAtMs": revoked["revokedAtMs"],
        }
        assert recent(revoked["revokedAtMs"])
        assert {await client.client.closed(within=CLOSED_SECONDS) for client in inside} == {REMOVED}
        refused = await target.expect_refusal(stack.gateways[1])
        assert refused.details["reason"] == "role-upgrade"
        listed = found((await caller.call("device.pair.list"))["paired"], target.device_id)
        assert listed["tokens"][0]["revokedAtMs"] == revoked["revokedAtMs"]

    async def test_revoking_one_role_leaves_the_other(self, stack: Stack, callers: Callers) -> None:
        caller = await callers.enter(ADMINISTRATOR, stack.gateways[0])
        target = await pair(stack)
        await add_role(target, NODE_HOST)
        node = await callers.stay(replace(target, profile=NODE_HOST), stack.gateways[1])
        operator = await callers.stay(target, stack.gateways[1])
        await caller.call("device.token.revoke", deviceId=target.device_id, role="node")
        assert await node.client.closed(within=CLOSED_SECONDS) == REMOVED
        assert (await operator.client.call("health")).ok


ENDINGS: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "remove": ("device.pair.remove", {}),
    "rotate": ("device.token.rotate", {"role": "operator"}),
    "revoke": ("device.token.revoke", {"role": "operator"}),
}


class TestOrder:
    @both_protocols
    @pytest.mark.parametrize("method", ["device.pair.approve", "device.pair.reject"])
    async def test_the_decider_gets_the_resolved_event_before_the_response(
        self, stack: Stack, callers: Callers, profile: Profile, method: str
    ) -> None:
        raw = await callers.raw(await pair(stack, profile.with_scopes(ADMIN)), stack.gateways[0])
        for _ in range(5):
            target = SimulatedDevice(stack)
            request_id = await target.request_pairing(stack.gateways[1])
            while (asked := await raw.receive_text())["event"] != "device.pair.requested":
                pass
            assert asked["payload"]["requestId"] == request_id
            await raw.send_json(request(method, {"requestId": request_id}, "decide"))
            (resolved,), response = await said_until_response(raw)
            assert response["ok"], response
            assert resolved["event"] == "device.pair.resolved"
            assert resolved["payload"]["requestId"] == request_id

    @both_protocols
    @pytest.mark.parametrize("with_gateway_token", [True, False])
    @pytest.mark.parametrize("ending", ENDINGS)
    async def test_a_client_that_ends_itself_gets_the_response_and_then_the_close(
        self,
        stack: Stack,
        callers: Callers,
        profile: Profile,
        ending: str,
        *,
        with_gateway_token: bool,
    ) -> None:
        device = await pair(stack, profile.with_scopes(READ, PAIRING))
        raw = await callers.raw(device, stack.gateways[0], with_gateway_token=with_gateway_token)
        others = [await callers.stay(device, gateway) for gateway in stack.gateways]
        method, more = ENDINGS[ending]
        await raw.send_json(request(method, {"deviceId": device.device_id, **more}, "the end"))
        (response,), close = await said_until_close(raw)
        assert (response["id"], response["ok"]) == ("the end", True)
        assert close == REMOVED
        assert {await other.client.closed(within=CLOSED_SECONDS) for other in others} == {REMOVED}

    async def test_what_else_it_asked_is_not_answered_any_more(
        self, stack: Stack, callers: Callers
    ) -> None:
        device = await pair(stack, CLI.with_scopes(PAIRING))
        raw = await callers.raw(device, stack.gateways[0])
        for number in range(3):
            await raw.send_json(request("device.pair.list", {}, f"before {number}"))
        await raw.send_json(
            request("device.pair.remove", {"deviceId": device.device_id}, "the end")
        )
        for number in range(3):
            await raw.send_json(request("device.pair.list", {}, f"after {number}"))
        body, close = await said_until_close(raw)
        assert body[-1]["id"] == "the end"
        assert close == REMOVED
