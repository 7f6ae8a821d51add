"""Approval replicas that crash, hang and return."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from shared.device.handshake import Admitted, Credentials, encode
from shared.device.identity import DeviceKey
from shared.device.profile import CLI, CLI_3, NODE_HOST
from shared.rpc.question_window import WINDOW_MAX_QUESTIONS
from shared.rpc.requester import DEADLINE_SECONDS
from shared.rpc.responder_pool import DOUBT_SECONDS
from tests.e2e.metrics import metric
from tests.support.websocket.raw_socket import RawSocket, frame_bytes
from tools.support.actors import (
    Operator,
    SimulatedDevice,
    log_lines,
    pair,
    wait_for_approvals,
    wait_for_log,
)
from tools.support.waiting import POLL_SECONDS

if TYPE_CHECKING:
    from shared.device.handshake import Refused
    from tests.conftest import StartStack
    from tests.e2e.callers import Callers
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack

RETRY_BOUNDS_MS = range(500, 5_001)
MARGIN_SECONDS = 12.0
"""Extra time for a loaded machine, beyond a deadline."""
LEASE_SECONDS = 60
"""Longer than any outage here, so that connections stay open."""
CROWD = 1_200
PER_ADDRESS = 30
NEWCOMERS = 6

pytestmark = pytest.mark.usefixtures("restore_stack")


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two approvals and two gateways, for the whole module."""
    return start_stack(approvals=2, gateways=2, gateway_env={"LEASE_SECONDS": str(LEASE_SECONDS)})


@pytest.fixture
async def paired(stack: Stack) -> list[SimulatedDevice]:
    """Return devices that were admitted before the outage."""
    return [await pair(stack, profile) for profile in (CLI, CLI_3, NODE_HOST)]


def check_unavailable(refused: Refused, dependency: str, reasons: set[str]) -> None:
    """Check that the client is asked to retry, and never to pair again."""
    assert refused.code == "UNAVAILABLE"
    assert refused.error is not None
    assert refused.error["retryable"] is True
    assert refused.retry_after_ms in RETRY_BOUNDS_MS
    assert refused.details["dependency"] == dependency
    assert refused.details["reason"] in reasons
    assert refused.request_id == ""
    assert refused.close == (1013, f"{dependency} unavailable")


class TestOneOfTwo:
    async def test_killed_the_next_connects_are_answered_by_the_other(
        self, stack: Stack, paired: list[SimulatedDevice]
    ) -> None:
        stack.approvals[0].kill9()
        for gateway in stack.gateways:
            for device in paired * 2:
                await device.connect_once(gateway)
                await device.connect_once(gateway, with_gateway_token=False)

    async def test_stopped_the_next_connects_are_answered_by_the_other(
        self, stack: Stack, paired: list[SimulatedDevice]
    ) -> None:
        stack.approvals[1].pause()
        for gateway in stack.gateways:
            for device in paired * 2:
                await device.connect_once(gateway)
        stack.approvals[1].resume()
        stack.approvals[1].wait_ready()
        for gateway in stack.gateways:
            for device in paired:
                await device.connect_once(gateway)

    async def test_killed_what_is_new_is_still_asked_and_approved(self, stack: Stack) -> None:
        stack.approvals[0].kill9()
        device = SimulatedDevice(stack)
        request_id = await device.request_pairing(stack.gateways[0])
        assert await device.request_pairing(stack.gateways[1]) == request_id
        async with Operator(stack, stack.approvals[1]) as operator:
            (await operator.approve(request_id)).ok()
        await device.connect_once(stack.gateways[1])

    async def test_killed_again_and_again_a_question_that_writes_is_carried_out_once(
        self, stack: Stack
    ) -> None:
        """The retry finds what an unanswered attempt has written (R11)."""
        for approval in (*stack.approvals, *stack.approvals):
            device = SimulatedDevice(stack)
            attempts = [
                asyncio.create_task(device.request_pairing(gateway))
                for gateway in stack.gateways * 4
            ]
            approval.kill9()
            assert len(set(await asyncio.gather(*attempts))) == 1
            approval.start()
            await approval.until_ready()
            async with Operator(stack, approval) as operator:
                assert await operator.audit(device.device_id) == ["requested"]


class TestNoneLeft:
    @pytest.mark.parametrize("mode", ["killed", "stopped"])
    async def test_no_client_is_admitted_or_asked_to_pair_and_sessions_stay(
        self, stack: Stack, callers: Callers, paired: list[SimulatedDevice], mode: str
    ) -> None:
        strangers = [SimulatedDevice(stack, profile) for profile in (CLI, CLI_3, NODE_HOST)]
        inside = [
            (await callers.stay(device, gateway)).client
            for gateway in stack.gateways
            for device in paired
        ]
        await self._all_away(stack, [*paired, *strangers], mode)
        assert [(await client.call("health")).ok for client in inside] == [True] * 6
        for approval in stack.approvals:
            approval.start() if mode == "killed" else approval.resume()
        for service in stack.services:
            await service.until_ready()
        await self._all_well(stack, paired, strangers)
        assert [(await client.call("health")).ok for client in inside] == [True] * 6

    async def _all_away(self, stack: Stack, devices: list[SimulatedDevice], mode: str) -> None:
        """Stop the approvals; nobody may be admitted, before or after the gateways notice."""
        for approval in stack.approvals:
            approval.kill9() if mode == "killed" else approval.pause()
        retries = await self._all_unavailable(stack, devices)
        for gateway in stack.gateways:
            await gateway.until_not_ready()
        retries += await self._all_unavailable(stack, devices)
        assert len(set(retries)) > len(retries) // 2, "clients come back spread over time"

    async def _all_well(
        self, stack: Stack, paired: list[SimulatedDevice], strangers: list[SimulatedDevice]
    ) -> None:
        """Check that unanswered requests had no effect."""
        async with Operator(stack, stack.approvals[0]) as operator:
            pending = {request["deviceId"] for request in await operator.pending()}
        assert pending.isdisjoint({device.device_id for device in strangers})
        for gateway in stack.gateways:
            for device in paired:
                await device.connect_once(gateway, with_gateway_token=False)
        for stranger in strangers:
            await stranger.request_pairing(stack.gateways[0])

    async def _all_unavailable(
        self, stack: Stack, devices: list[SimulatedDevice]
    ) -> list[int | None]:
        retries = []
        refusals = await asyncio.gather(
            *(device.expect_refusal(gateway) for gateway in stack.gateways for device in devices)
        )
        for refused in refusals:
            check_unavailable(refused, "approval", {"timeout", "no-responder"})
            retries.append(refused.retry_after_ms)
        return retries

    async def test_a_client_without_a_device_is_not_admitted_either(self, stack: Stack) -> None:
        async def visit() -> Admitted | Refused:
            device = SimulatedDevice(stack)
            client = device.client(stack.gateways[0])
            client.key = None
            async with client:
                return await client.connect()

        assert isinstance(await visit(), Admitted)
        for approval in stack.approvals:
            approval.kill9()
        await stack.gateways[0].until_not_ready()
        outcome = await visit()
        assert not isinstance(outcome, Admitted)
        check_unavailable(outcome, "approval", {"no-responder"})

    async def test_the_log_line_names_what_is_missing(self, stack: Stack) -> None:
        for approval in stack.approvals:
            approval.kill9()
        device = SimulatedDevice(stack)
        refused = await device.expect_refusal(stack.gateways[1])
        (line,) = await wait_for_log(
            stack.gateways[1], "connection", connection=refused.connection_id
        )
        assert (line["outcome"], line["code"]) == ("unavailable", 1013)
        assert line["dependency"] == "approval"
        assert line["why"] in {"no-responder", "timeout"}
        assert line["device"] == device.device_id


class TestCrowdsWhileApprovalsHang:
    @pytest.fixture
    def stack(self, start_stack: StartStack) -> Stack:
        """Return a stack of its own: the crowd uses up the budget of pending requests."""
        env = {"LEASE_SECONDS": str(LEASE_SECONDS)}
        return start_stack(approvals=2, gateways=2, gateway_env=env)

    async def test_a_crowd_while_approvals_hang_is_answered_and_bounded(self, stack: Stack) -> None:
        gateway = stack.gateways[0]
        credentials = Credentials(token=stack.gateway_token)
        async with AsyncExitStack() as sockets:
            crowd = []
            for number in range(CROWD):
                raw = await RawSocket.open(
                    gateway.port, source=f"127.0.1.{1 + number // PER_ADDRESS}"
                )
                sockets.callback(raw.hang_up)
                assert raw.status == 101
                await raw.challenge()
                frame = raw.connect_frame(DeviceKey.generate(), CLI, credentials)
                crowd.append((raw, frame_bytes(encode(frame).encode())))
            await gateway.until_ready()
            for approval in stack.approvals:
                approval.pause()
            began = time.monotonic()
            open_questions: list[float] = []
            watching = asyncio.create_task(self._watch(gateway, open_questions))
            for raw, connect in crowd:
                await raw.send_bytes(connect)
            answers = [await self._answer(raw) for raw, _ in crowd]
            took = time.monotonic() - began
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        assert took < DEADLINE_SECONDS + MARGIN_SECONDS
        assert {(answer["code"], code) for answer, code in answers} == {("UNAVAILABLE", 1013)}
        reasons = Counter(answer["details"]["reason"] for answer, _ in answers)
        assert 0 < max(open_questions) <= WINDOW_MAX_QUESTIONS, "the rest waits, unread"
        assert reasons.total() == CROWD
        assert reasons.keys() <= {"overloaded", "timeout"}
        retries = [answer["retryAfterMs"] for answer, _ in answers]
        assert set(retries) <= set(RETRY_BOUNDS_MS)
        buckets = Counter(retry // 500 for retry in retries)
        assert max(buckets.values()) < CROWD / 4, "they come back spread over time"
        await self._newcomers_are_asked(stack)

    async def _watch(self, gateway: ServiceProcess, seen: list[float]) -> None:
        """Note how many questions are open, until cancelled."""
        while True:
            seen.append(await metric(gateway, "latchkey_gateway_questions_open"))
            await asyncio.sleep(POLL_SECONDS)

    async def _newcomers_are_asked(self, stack: Stack) -> None:
        """Resume the approvals: what the crowd asked was too late, and leaves room for others."""
        for approval in stack.approvals:
            approval.resume()
        for service in stack.services:
            await service.until_ready()
        newcomers = [SimulatedDevice(stack) for _ in range(NEWCOMERS)]
        for newcomer in newcomers:
            await newcomer.request_pairing(stack.gateways[0])
        async with Operator(stack, stack.approvals[0]) as operator:
            pending = {request["deviceId"] for request in await operator.pending()}
        assert pending == {newcomer.device_id for newcomer in newcomers}

    async def _answer(self, raw: RawSocket) -> tuple[Any, int]:
        answer = await raw.receive_text()
        return answer["error"], (await raw.closed()).code


class TestHeard:
    async def test_a_silent_responder_is_not_asked_until_it_returns(
        self, stack: Stack, paired: list[SimulatedDevice]
    ) -> None:
        silent, gateway, device = stack.approvals[0], stack.gateways[0], paired[0]

        def asked() -> int:
            return len(log_lines(silent, "question", device=device.device_id))

        await wait_for_approvals(gateway, "2 live")
        silent.pause()
        await wait_for_approvals(gateway, "1 live")
        for _ in range(6):
            await device.connect_once(gateway)
        before = asked()
        silent.resume()
        await wait_for_approvals(gateway, "2 live")
        async with asyncio.timeout(DOUBT_SECONDS + MARGIN_SECONDS):
            while asked() == before:
                await device.connect_once(gateway)
