"""Held connections, with two gateways and two approvals: `GATEWAY_WAIT_SECONDS`."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import pytest

from shared.device.handshake import Admitted, Refused
from shared.device.profile import CLI, CONTROL_UI, NODE_HOST, NODE_HOST_3, REFERENCE
from tests.e2e.metrics import metric
from tools.support.actors import Operator, SimulatedDevice, wait_for_log
from tools.support.waiting import POLL_SECONDS, WAIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.device.handshake import Outcome
    from shared.device.profile import Profile
    from tests.conftest import StartStack
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack

WITHIN_SECONDS: Final = 1.0
"""How soon a decision reaches a held client."""
LEASE_SECONDS: Final = 3.0
MANY: Final = 1000
"""The most that one gateway holds."""
BATCH: Final = 250
EARLY_SECONDS: Final = 0.1
"""Tolerance for clocks and rounding where something must not happen too early."""

pytestmark = pytest.mark.usefixtures("no_lockouts", "restore_stack")


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two approvals, and two gateways that hold clients."""
    return start_stack(
        approvals=2,
        gateways=2,
        gateway_env={
            "GATEWAY_WAIT_SECONDS": "30",
            "GATEWAY_PREAUTH_LIMIT_PER_ADDRESS": "4000",
            "LEASE_SECONDS": str(LEASE_SECONDS),
            "BEAT_SECONDS": "0.5",
            "DRAIN_SECONDS": "4",
        },
        approval_env={"PENDING_LIMIT": "3000", "PENDING_LIMIT_PER_ADDRESS": "3000"},
    )


@dataclass(frozen=True, slots=True)
class Waiting:
    """A client whose `connect` is not answered yet."""

    device: SimulatedDevice
    request_id: str
    task: asyncio.Task[Outcome]

    async def admitted(self) -> Admitted:
        """Return how it was admitted."""
        outcome = await self.task
        assert isinstance(outcome, Admitted), outcome
        return outcome

    async def refused(self) -> Refused:
        """Return how it was refused."""
        outcome = await self.task
        assert isinstance(outcome, Refused), outcome
        return outcome


@asynccontextmanager
async def waiting(
    stack: Stack, gateway: ServiceProcess, operator: Operator, profile: Profile = CLI
) -> AsyncIterator[Waiting]:
    """Connect a new device, and wait until its request is listed."""
    device = SimulatedDevice(stack, profile)
    async with AsyncExitStack() as resources:
        client = await resources.enter_async_context(device.client(gateway))
        client.timeouts = replace(client.timeouts, outcome=2 * WAIT_SECONDS)
        task = asyncio.create_task(client.connect())
        resources.callback(task.cancel)
        request_id = await request_of(operator, device.device_id)
        await asyncio.sleep(10 * POLL_SECONDS)
        assert not task.done(), task
        yield Waiting(device, request_id, task)


async def request_of(operator: Operator, device_id: str) -> str:
    """Wait for a device's request, and return its id."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            for request in await operator.pending():
                if request["deviceId"] == device_id:
                    return str(request["requestId"])
            await asyncio.sleep(POLL_SECONDS)


class TestDecided:
    @pytest.mark.parametrize(
        "profile", [CLI, REFERENCE, NODE_HOST, NODE_HOST_3], ids=lambda item: item.client_id
    )
    async def test_an_approval_at_the_other_replica_admits_within_a_second(
        self, stack: Stack, operator: Operator, second_operator: Operator, profile: Profile
    ) -> None:
        one, two = stack.gateways
        async with waiting(stack, one, operator, profile) as held:
            began = time.monotonic()
            (await second_operator.approve(held.request_id)).ok()
            admitted = await held.admitted()
            assert time.monotonic() - began < WITHIN_SECONDS
            assert admitted.replica == one.boot_id
            assert admitted.device_token
        again = await held.device.connect_once(two)
        assert again.device_token == admitted.device_token
        (line,) = await wait_for_log(
            one, "connection", outcome="admitted", device=held.device.device_id
        )
        assert line["held_ms"] > line["ms"] > 0
        assert await operator.audit(held.device.device_id) == ["requested", "approved"]

    async def test_a_rejection_is_told_within_a_second_and_files_no_other_request(
        self, stack: Stack, operator: Operator, second_operator: Operator
    ) -> None:
        async with waiting(stack, stack.gateways[1], operator) as held:
            began = time.monotonic()
            reply = await second_operator.call("POST", f"requests/{held.request_id}/reject")
            reply.ok()
            refused = await held.refused()
            assert time.monotonic() - began < WITHIN_SECONDS
            assert (refused.code, refused.request_id) == ("NOT_PAIRED", held.request_id)
            assert refused.close is not None
            assert refused.close.code == 1008
        assert await operator.audit(held.device.device_id) == ["requested", "rejected"]

    async def test_the_page_is_still_refused_at_once(
        self, stack: Stack, operator: Operator
    ) -> None:
        device = SimulatedDevice(stack, CONTROL_UI)
        began = time.monotonic()
        await device.request_pairing(stack.gateways[0])
        assert time.monotonic() - began < WITHIN_SECONDS


class TestNotDecided:
    async def test_after_its_time_it_gets_todays_refusal(
        self, stack: Stack, operator: Operator
    ) -> None:
        began = time.monotonic()
        async with waiting(stack, stack.gateways[0], operator) as held:
            refused = await held.refused()
            took = time.monotonic() - began
        assert 8 - EARLY_SECONDS < took < 10
        assert (refused.code, refused.request_id) == ("NOT_PAIRED", held.request_id)
        (line,) = await wait_for_log(
            stack.gateways[0],
            "connection",
            outcome="pairing-required",
            device=held.device.device_id,
        )
        assert line["request_id"] == held.request_id
        assert line["held_ms"] > 7_000

    async def test_without_a_lease_it_is_not_told_that_it_needs_pairing(
        self, stack: Stack, operator: Operator
    ) -> None:
        async with waiting(stack, stack.gateways[0], operator, NODE_HOST_3) as held:
            began = time.monotonic()
            stack.redis.pause()
            try:
                refused = await held.refused()
            finally:
                stack.redis.resume()
            assert time.monotonic() - began < LEASE_SECONDS + WITHIN_SECONDS
            assert refused.code == "UNAVAILABLE"
            assert refused.error is not None
            assert refused.error["retryable"]

    @pytest.mark.parametrize(
        ("profile", "close"),
        [(CLI, 1008), (NODE_HOST_3, 1008), (NODE_HOST, 1012), (REFERENCE, 1012)],
        ids=lambda item: getattr(item, "client_id", ""),
    )
    async def test_sigterm(
        self, stack: Stack, operator: Operator, profile: Profile, close: int
    ) -> None:
        leaving, staying = stack.gateways
        async with waiting(stack, leaving, operator, profile) as held:
            began = time.monotonic()
            leaving.terminate()
            refused = await held.refused()
            assert time.monotonic() - began < WITHIN_SECONDS
            assert refused.close is not None
            assert refused.close.code == close
            assert refused.request_id == (held.request_id if close == 1008 else "")
        (await operator.approve(held.request_id)).ok()
        await held.device.connect_once(staying)
        assert await leaving.until_ended() == 0


class TestMany:
    async def test_others_are_admitted_as_usual_beside_as_many_as_may_be_held(
        self, stack: Stack, operator: Operator
    ) -> None:
        gateway = stack.gateways[0]
        known = await pair_at(stack, operator)
        async with AsyncExitStack() as resources:
            tasks = []
            for _ in range(MANY):
                client = SimulatedDevice(stack, NODE_HOST_3).client(gateway)
                client.timeouts = replace(client.timeouts, outcome=3 * WAIT_SECONDS)
                resources.push_async_callback(client.close)
                await client.open()  # one after another: this is no test of overload
                tasks.append(asyncio.create_task(client.connect()))
                if len(tasks) % BATCH == 0:
                    await held_at(gateway, len(tasks))
            extra = await SimulatedDevice(stack, NODE_HOST_3).expect_refusal(gateway)
            assert extra.code == "NOT_PAIRED", "nobody else is held"
            took = []
            for _ in range(50):
                began = time.monotonic()
                await known.connect_once(gateway)
                took.append(time.monotonic() - began)
            assert sorted(took)[len(took) // 2] < WITHIN_SECONDS / 4
            assert [task.result() for task in tasks if task.done()] == []
            outcomes = await asyncio.gather(*tasks)
        assert {outcome.code for outcome in outcomes if isinstance(outcome, Refused)} == {
            "NOT_PAIRED"
        }
        assert all(isinstance(outcome, Refused) for outcome in outcomes)


async def held_at(gateway: ServiceProcess, number: int) -> None:
    """Wait until a gateway holds this many clients."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            if await metric(gateway, 'latchkey_gateway_connections{state="held"}') >= number:
                return
            await asyncio.sleep(5 * POLL_SECONDS)


async def pair_at(stack: Stack, operator: Operator) -> SimulatedDevice:
    """Return a paired device; it was held until it was approved."""
    async with waiting(stack, stack.gateways[0], operator) as held:
        (await operator.approve(held.request_id)).ok()
        await held.admitted()
    return held.device
