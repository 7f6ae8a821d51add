"""The main story: a device is refused, approved at one replica, and admitted at another."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from services.approval.storage.keys import device_key
from shared.device.handshake import Admitted, Credentials, Refused, encode
from shared.device.profile import (
    CLI,
    CLI_3,
    CONTROL_UI,
    CONTROL_UI_3,
    NODE_HOST,
    NODE_HOST_3,
    REFERENCE,
)
from tests.support.websocket.raw_socket import RawSocket
from tools.support.actors import Operator, SimulatedDevice, log_lines, pair, wait_for_log
from tools.support.waiting import WAIT_SECONDS

if TYPE_CHECKING:
    from shared.device.profile import Profile
    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack

APPROVAL_PUBLIC_URL = "https://approve.example"
PROFILES = [CLI, CLI_3, NODE_HOST, NODE_HOST_3, CONTROL_UI, CONTROL_UI_3, REFERENCE]

pytestmark = pytest.mark.usefixtures("no_lockouts")


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two approvals and three gateways, for the whole module."""
    return start_stack(
        approvals=2,
        gateways=3,
        env={"APPROVAL_PUBLIC_URL": APPROVAL_PUBLIC_URL},
    )


def named(profile: Profile) -> str:
    return f"{profile.client_id} {profile.max_protocol}"


every_client = pytest.mark.parametrize("profile", PROFILES, ids=named)
both_protocols = pytest.mark.parametrize("profile", [CLI, CLI_3], ids=named)


class TestStory:
    @every_client
    async def test_a_device_is_refused_approved_and_admitted_at_different_replicas(
        self, stack: Stack, second_operator: Operator, profile: Profile
    ) -> None:
        one, two, three = stack.gateways
        device = SimulatedDevice(stack, profile)

        refused = await device.expect_refusal(one)
        check_pairing_required(refused, device)
        request_id = refused.request_id
        assert refused.connection_id.partition(":")[0] == one.boot_id
        assert await device.request_pairing(two) == request_id
        assert await device.request_pairing(three) == request_id

        approved = (await second_operator.approve(request_id)).ok()
        assert approved["requestId"] == request_id
        assert approved["device"]["deviceId"] == device.device_id

        admitted = await device.connect_once(three)
        assert admitted.replica == three.boot_id != one.boot_id
        assert admitted.protocol == profile.max_protocol
        assert admitted.device_token

        again = await device.connect_once(two, with_gateway_token=False)
        assert again.replica == two.boot_id
        assert again.device_token == admitted.device_token
        if profile.max_protocol == 4:
            assert admitted.hello["auth"]["method"] == "token"
            assert again.hello["auth"]["method"] == "device-token"

        assert request_id not in {
            request["requestId"] for request in await second_operator.pending()
        }
        assert await second_operator.audit(device.device_id) == ["requested", "approved"]

    async def test_the_questions_of_retries_land_on_either_approval(self, stack: Stack) -> None:
        device = SimulatedDevice(stack)
        request_ids = {
            await device.request_pairing(gateway) for _ in range(4) for gateway in stack.gateways
        }
        assert len(request_ids) == 1
        for approval in stack.approvals:
            (request_id,) = request_ids
            await wait_for_log(approval, "question", device=device.device_id, request_id=request_id)

    @every_client
    async def test_a_rejected_device_can_ask_again(
        self, stack: Stack, operator: Operator, profile: Profile
    ) -> None:
        device = SimulatedDevice(stack, profile)
        request_id = await device.request_pairing(stack.gateways[0])
        (await operator.call("POST", f"requests/{request_id}/reject")).ok()
        assert (await operator.approve(request_id)).status == 409
        assert await device.request_pairing(stack.gateways[1]) != request_id


def check_pairing_required(refused: Refused, device: SimulatedDevice) -> None:
    """Check the error frame and the close."""
    profile = device.profile
    role = profile.role
    assert refused.code == "NOT_PAIRED"
    details = dict(refused.details)
    request_id = details["requestId"]
    assert details.pop("connectionId")
    assert details.pop("approvalUrl") == APPROVAL_PUBLIC_URL
    if profile.max_protocol == 3:
        assert refused.message == "pairing required"
        assert details == {
            "code": "PAIRING_REQUIRED",
            "requestId": request_id,
            "reason": "not-paired",
        }
        assert refused.close == (1008, "pairing required")
        return
    message = "pairing required: device is not approved yet"
    assert refused.message == message
    expected: dict[str, Any] = {
        "code": "PAIRING_REQUIRED",
        "reason": "not-paired",
        "requestId": request_id,
        "remediationHint": "Approve this device from the pending pairing requests at "
        f"{APPROVAL_PUBLIC_URL}/setup",
        "deviceId": device.device_id,
        "requestedRole": role,
    }
    if profile.client_id == CONTROL_UI.client_id:
        expected |= {
            "recommendedNextStep": "wait_then_retry",
            "retryable": True,
            "pauseReconnect": False,
        }
    if profile.scopes:
        expected["requestedScopes"] = list(profile.scopes)
    assert details == expected
    assert refused.close == (1008, f"{message} (requestId: {request_id})")


class TestTwoOperators:
    async def test_two_approvals_at_once_have_one_effect(
        self, stack: Stack, operator: Operator, second_operator: Operator
    ) -> None:
        for _ in range(5):
            client_device = SimulatedDevice(stack)
            request_id = await client_device.request_pairing(stack.gateways[0])
            replies = await asyncio.gather(
                *(each.approve(request_id) for each in (operator, second_operator) * 3)
            )
            devices = [reply.ok()["device"] for reply in replies]
            assert all(device == devices[0] for device in devices)
            assert await operator.audit(client_device.device_id) == ["requested", "approved"]
            await client_device.connect_once(stack.gateways[1])
            await client_device.connect_once(stack.gateways[2], with_gateway_token=False)

    async def test_approve_and_reject_at_once_leave_one_of_them(
        self, stack: Stack, operator: Operator, second_operator: Operator
    ) -> None:
        for _ in range(5):
            device = SimulatedDevice(stack)
            request_id = await device.request_pairing(stack.gateways[0])
            approved, rejected = await asyncio.gather(
                operator.approve(request_id),
                second_operator.call("POST", f"requests/{request_id}/reject"),
            )
            assert sorted([approved.status, rejected.status]) == [200, 409]
            audit = await operator.audit(device.device_id)
            if approved.status == 200:
                assert audit == ["requested", "approved"]
                await device.connect_once(stack.gateways[1])
            else:
                assert audit == ["requested", "rejected"]
                await device.request_pairing(stack.gateways[1])


class TestApprovedWhileRetrying:
    async def test_a_device_approved_between_two_attempts_is_admitted_at_the_next_replica(
        self, stack: Stack, operator: Operator, second_operator: Operator
    ) -> None:
        device = SimulatedDevice(stack)
        request_id = await device.request_pairing(stack.gateways[0])
        (await operator.approve(request_id)).ok()
        await device.connect_once(stack.gateways[1])
        assert device.device_id not in {
            request["deviceId"] for request in await second_operator.pending()
        }

    async def test_a_device_approved_while_it_retries_everywhere_is_admitted(
        self, stack: Stack, operator: Operator, second_operator: Operator
    ) -> None:
        device = SimulatedDevice(stack)
        request_id = await device.request_pairing(stack.gateways[0])
        answered = asyncio.Event()

        async def attempt(at: int) -> list[tuple[bool, Admitted | Refused]]:
            seen: list[tuple[bool, Admitted | Refused]] = []
            async with asyncio.timeout(WAIT_SECONDS):
                while not seen or isinstance(seen[-1][1], Refused):
                    known = answered.is_set()
                    async with device.client(stack.gateways[at]) as client:
                        seen.append((known, await client.connect()))
            return seen

        async def approve() -> None:
            (await second_operator.approve(request_id)).ok()
            answered.set()

        *attempts, _ = await asyncio.gather(attempt(0), attempt(1), attempt(2), approve())
        for seen in attempts:
            for known, outcome in seen:
                if isinstance(outcome, Refused):
                    assert not known, "attempts after the answer are admitted"
                    assert outcome.request_id == request_id
        assert device.device_id not in {request["deviceId"] for request in await operator.pending()}
        assert await operator.audit(device.device_id) == ["requested", "approved"]


class TestRetryStorms:
    async def test_a_storm_of_retries_is_one_request_and_writes_nothing(
        self, stack: Stack, operator: Operator
    ) -> None:
        device = SimulatedDevice(stack)
        request_id = await device.request_pairing(stack.gateways[0])
        written = {stored(stack, device)}
        for _ in range(10):
            seen = await asyncio.gather(
                *(device.request_pairing(stack.gateways[at % 3]) for at in range(20))
            )
            assert set(seen) == {request_id}
            written.add(stored(stack, device))
        assert len(written) <= 2, "a request is refreshed once in ten seconds"
        mine = [
            request
            for request in await operator.pending()
            if request["deviceId"] == device.device_id
        ]
        assert [item["requestId"] for item in mine] == [request_id]
        assert await operator.audit(device.device_id) == ["requested"]

    async def test_a_storm_that_begins_all_at_once_is_one_request_too(
        self, stack: Stack, operator: Operator
    ) -> None:
        device = SimulatedDevice(stack)
        seen = await asyncio.gather(
            *(device.request_pairing(stack.gateways[at % 3]) for at in range(30))
        )
        assert len(set(seen)) == 1
        assert await operator.audit(device.device_id) == ["requested"]


def stored(stack: Stack, device: SimulatedDevice) -> object:
    """Return the stored record of a device; each write gives it another version."""
    return stack.redis.call("GET", device_key(device.device_id))


class TestReplayedConnects:
    @both_protocols
    async def test_a_captured_connect_is_worth_nothing_on_another_socket(
        self, stack: Stack, operator: Operator, profile: Profile
    ) -> None:
        device = await pair(stack, profile)
        credentials = Credentials(token=stack.gateway_token)
        one, two, _three = stack.gateways
        async with await RawSocket.open(one.port) as raw:
            await raw.challenge()
            captured = encode(raw.connect_frame(device.key, profile, credentials)).encode()
            await raw.send(captured)
            assert (await raw.receive_text())["ok"]
            for gateway in (one, two):
                async with await RawSocket.open(gateway.port) as other:
                    await other.challenge()
                    await other.send(captured)
                    error = (await other.receive_text())["error"]
                    assert error["code"] == "INVALID_REQUEST"
                    assert error["details"]["code"] == "DEVICE_AUTH_NONCE_MISMATCH"
                    assert await other.closed() == (1008, "device nonce mismatch")
                    (line,) = await wait_for_log(
                        gateway, "connection", connection=error["details"]["connectionId"]
                    )
                    assert line["outcome"] == "device-nonce-mismatch"
                asked = [
                    question
                    for approval in stack.approvals
                    for question in log_lines(
                        approval, "question", connection=error["details"]["connectionId"]
                    )
                ]
                assert asked == []
        assert await operator.audit(device.device_id) == ["requested", "approved"]
