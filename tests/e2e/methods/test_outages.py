"""Calls while approvals hang or crash: clients may retry, and nothing is done twice."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from shared.device.client import DeviceClient
from shared.device.handshake import Admitted
from shared.device.profile import CLI
from shared.rpc.requester import DEADLINE_SECONDS
from tests.e2e.callers import ADMIN, ADMINISTRATOR, PAIRING, READ, both_protocols
from tools.support.actors import Operator, SimulatedDevice
from tools.support.waiting import POLL_SECONDS

if TYPE_CHECKING:
    from shared.device.handshake import Response
    from shared.device.profile import Profile
    from tests.conftest import StartStack
    from tests.e2e.callers import Caller, Callers
    from tools.support.processes.stack import Stack

LEASE_SECONDS: Final = 20.0
MARGIN_SECONDS: Final = 3.0
"""Extra time for a loaded machine, beyond a limit."""
RECOVERY_SECONDS: Final = 10.0
IN_FLIGHT: Final = 16
SURPLUS: Final = 4
RETRY_AFTER_MS: Final = range(500, 2_001)
FORGED: Final = {
    "X-Forwarded-For": "127.0.0.1",
    "X-Real-IP": "127.0.0.1",
    "Forwarded": "for=127.0.0.1",
    "X-Railway-Request-Id": "1",
    "Host": "localhost",
}

pytestmark = pytest.mark.usefixtures("restore_stack")


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two approvals and two gateways whose lease outlives every outage here."""
    return start_stack(
        approvals=2,
        gateways=2,
        gateway_env={"BEAT_SECONDS": "0.3", "LEASE_SECONDS": str(LEASE_SECONDS)},
    )


async def works_again(caller: Caller) -> None:
    """Wait until calls succeed again."""
    until = time.monotonic() + RECOVERY_SECONDS
    while not (response := await caller.client.call("device.pair.list")).ok:
        assert response.error is not None
        assert response.error["code"] == "UNAVAILABLE"
        assert time.monotonic() < until, response
        await asyncio.sleep(POLL_SECONDS)


def check_unavailable(response: Response, reason: str | None = None) -> None:
    """Check that a response asks for a retry, and after which delay."""
    assert not response.ok
    error = response.error
    assert error is not None
    assert (error["code"], error["retryable"]) == ("UNAVAILABLE", True)
    assert error["retryAfterMs"] in RETRY_AFTER_MS
    assert error["details"]["dependency"] == "approval"
    if reason is not None:
        assert error["details"]["reason"] == reason


async def done_to(stack: Stack, device_id: str) -> list[str]:
    """Return the audit log's actions on a device."""
    async with Operator(stack, stack.approvals[1]) as operator:
        return await operator.audit(device_id)


class TestApprovalsUnavailable:
    @both_protocols
    async def test_calls_are_unavailable_while_all_approvals_hang(
        self, stack: Stack, callers: Callers, profile: Profile
    ) -> None:
        caller = await callers.enter(ADMINISTRATOR, stack.gateways[0], profile)
        waiting = SimulatedDevice(stack)
        request_id = await waiting.request_pairing(stack.gateways[1])
        for approval in stack.approvals:
            approval.pause()
        calls: list[tuple[str, dict[str, Any]]] = [
            ("device.pair.list", {}),
            ("device.pair.approve", {"requestId": request_id}),
            ("status", {}),
        ]
        for method, params in calls:
            began = time.monotonic()
            check_unavailable(await caller.client.call(method, params))
            assert time.monotonic() - began < DEADLINE_SECONDS + MARGIN_SECONDS
        assert (await caller.client.call("health")).ok
        for approval in stack.approvals:
            approval.resume()
        await works_again(caller)
        assert (await done_to(stack, waiting.device_id)).count("approved") <= 1

    async def test_more_calls_than_may_be_in_flight(self, stack: Stack, callers: Callers) -> None:
        caller = await callers.enter(ADMINISTRATOR, stack.gateways[0])
        other = await callers.enter(ADMINISTRATOR, stack.gateways[0])
        for approval in stack.approvals:
            approval.pause()
        calls = [
            asyncio.create_task(caller.client.call("device.pair.list"))
            for _ in range(IN_FLIGHT + SURPLUS)
        ]
        refused, _others = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        while len(refused) < SURPLUS:
            refused, _others = await asyncio.wait(calls, timeout=POLL_SECONDS)
        assert {calls.index(refusal) for refusal in refused} == set(
            range(IN_FLIGHT, IN_FLIGHT + SURPLUS)
        )
        for refusal in refused:
            check_unavailable(refusal.result(), "overloaded")
        assert (await caller.client.call("health")).ok, "what needs no approval is served"
        theirs = asyncio.create_task(other.client.call("device.pair.list"))
        for approval in stack.approvals:
            approval.resume()
        await asyncio.gather(*calls, theirs)
        for response in (theirs.result(), *(call.result() for call in calls[:IN_FLIGHT])):
            assert response.ok or (response.error or {})["details"]["reason"] != "overloaded"
        await works_again(caller)

    @pytest.mark.parametrize("which", [0, 1])
    async def test_one_hangs_and_the_other_does_it_once(
        self, stack: Stack, callers: Callers, which: int
    ) -> None:
        caller = await callers.enter(ADMINISTRATOR, stack.gateways[0])
        waiting = [SimulatedDevice(stack) for _ in range(6)]
        requests = [await device.request_pairing(stack.gateways[1]) for device in waiting]
        stack.approvals[which].pause()
        for device, request_id in zip(waiting, requests, strict=True):
            approved = await caller.call("device.pair.approve", requestId=request_id)
            assert approved["device"]["deviceId"] == device.device_id
        stack.approvals[which].resume()
        await works_again(caller)
        for device in waiting:
            assert await done_to(stack, device.device_id) == ["requested", "approved"]

    async def test_one_dies_in_the_midst(self, stack: Stack, callers: Callers) -> None:
        """A call that succeeded ran exactly once; one that was unavailable ran at most once."""
        caller = await callers.enter(ADMINISTRATOR, stack.gateways[0])
        waiting = [SimulatedDevice(stack) for _ in range(12)]
        requests = [await device.request_pairing(stack.gateways[1]) for device in waiting]
        calls = [
            asyncio.create_task(
                caller.client.call("device.pair.approve", {"requestId": request_id})
            )
            for request_id in requests
        ]
        first, _others = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        stack.approvals[0].kill9()
        for device, response in zip(waiting, await asyncio.gather(*calls), strict=True):
            done = (await done_to(stack, device.device_id)).count("approved")
            if response.ok:
                assert done == 1
            else:
                check_unavailable(response)
                assert done <= 1
        assert all(call.result().ok for call in first)


class TestForgedForwardingHeaders:
    async def test_forged_headers_give_nobody_without_a_device_a_method(self, stack: Stack) -> None:
        for headers in ({name: value} for name, value in FORGED.items()):
            client = DeviceClient(
                stack.gateways[0].ws_url,
                None,
                CLI.with_scopes(ADMIN, PAIRING, READ),
                token=stack.gateway_token,
                headers=headers,
            )
            async with client:
                admitted = await client.connect()
                assert isinstance(admitted, Admitted)
                assert admitted.scopes == ()
                for method in ("device.pair.list", "status"):
                    response = await client.call(method, {})
                    assert response.error is not None
                    assert response.error["code"] == "FORBIDDEN"
