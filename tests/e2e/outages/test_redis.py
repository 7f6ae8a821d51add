"""Redis that stops, crashes, hangs or loses its data."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import redis as redis_py
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.device.profile import CLI, CLI_3, NODE_HOST
from tools.support.actors import Operator, SimulatedDevice, pair, wait_for_log

if TYPE_CHECKING:
    from shared.device.handshake import Refused
    from tests.conftest import StartStack
    from tests.e2e.callers import Callers
    from tools.support.processes.stack import Stack

LEASE_SECONDS = 60
"""Longer than any outage here, so that connections stay open."""
POWER_CUTS = 4

pytestmark = pytest.mark.usefixtures("restore_stack")


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two approvals and two gateways, for the whole module."""
    return start_stack(approvals=2, gateways=2, gateway_env={"LEASE_SECONDS": str(LEASE_SECONDS)})


async def until_all_ready(stack: Stack) -> None:
    for service in stack.services:
        await service.until_ready()


def bring_back(stack: Stack, mode: str) -> None:
    """Stop Redis this way, if it runs, and start it again."""
    if mode == "stopped":
        stack.redis.stop()
    else:
        stack.redis.kill9()
    stack.redis.start()


both_ends = pytest.mark.parametrize("mode", ["stopped", "killed"])


class TestRestart:
    @both_ends
    async def test_nothing_approved_is_lost_and_nobody_unapproved_is_admitted(
        self, stack: Stack, mode: str
    ) -> None:
        paired = [await pair(stack, profile) for profile in (CLI, CLI_3, NODE_HOST)]
        waiting = SimulatedDevice(stack)
        request_id = await waiting.request_pairing(stack.gateways[0])
        stranger = SimulatedDevice(stack)
        bring_back(stack, mode)
        await until_all_ready(stack)
        for gateway in stack.gateways:
            for device in paired:
                await device.reconnect(gateway, with_gateway_token=False)
            assert await waiting.request_pairing(gateway) == request_id
            await stranger.request_pairing(gateway)
        async with Operator(stack, stack.approvals[0]) as operator:
            devices = await operator.devices()
            assert {device.device_id for device in paired} <= set(devices)
            assert not {waiting.device_id, stranger.device_id} & set(devices)
            (await operator.approve(request_id)).ok()
        await waiting.reconnect(stack.gateways[1])

    @both_ends
    async def test_clients_meanwhile_are_asked_to_retry_and_sessions_stay(
        self, stack: Stack, callers: Callers, mode: str
    ) -> None:
        client_device, stranger = await pair(stack), SimulatedDevice(stack)
        inside = [(await callers.stay(client_device, gateway)).client for gateway in stack.gateways]
        if mode == "stopped":
            stack.redis.stop()
        else:
            stack.redis.kill9()
        for gateway in stack.gateways:
            for device in (client_device, stranger):
                self._check_unavailable(await device.expect_refusal(gateway))
                if device.token:
                    refused = await device.expect_refusal(gateway, with_gateway_token=False)
                    self._check_unavailable(refused)
        assert [(await client.call("health")).ok for client in inside] == [True, True]
        for service in stack.services:
            await service.until_not_ready()
        stack.redis.start()
        await until_all_ready(stack)
        await client_device.reconnect(stack.gateways[0], with_gateway_token=False)
        await stranger.request_pairing(stack.gateways[1])
        assert [(await client.call("health")).ok for client in inside] == [True, True]

    def _check_unavailable(self, refused: Refused) -> None:
        assert refused.code == "UNAVAILABLE"
        assert refused.details["dependency"] in {"redis", "approval"}
        assert refused.close is not None
        assert refused.close.code == 1013

    async def test_admissions_resume_after_redis_hangs(self, stack: Stack) -> None:
        device = await pair(stack)
        stack.redis.pause()
        self._check_unavailable(await device.expect_refusal(stack.gateways[0]))
        stack.redis.resume()
        await until_all_ready(stack)
        await device.reconnect(stack.gateways[0])

    async def test_the_log_names_redis(self, stack: Stack) -> None:
        stack.redis.kill9()
        gateway = stack.gateways[1]
        await gateway.until_not_ready()
        refused = await SimulatedDevice(stack).expect_refusal(gateway)
        (line,) = await wait_for_log(gateway, "connection", connection=refused.connection_id)
        assert (line["code"], line["dependency"]) == (1013, "redis")
        assert (line["outcome"], line["why"]) == ("unavailable", "redis")


class TestPowerCut:
    async def test_what_was_answered_is_on_disk(self, stack: Stack) -> None:
        for cut in range(POWER_CUTS):
            device = SimulatedDevice(stack, (CLI, NODE_HOST)[cut % 2])
            request_id = await device.request_pairing(stack.gateways[cut % 2])
            async with Operator(stack, stack.approvals[cut % 2]) as operator:
                (await operator.approve(request_id)).ok()
                stack.redis.kill9()
                stack.redis.start()
                await until_all_ready(stack)
                assert device.device_id in await operator.devices()
                assert await operator.audit(device.device_id) == ["requested", "approved"]
            await device.reconnect(stack.gateways[1 - cut % 2])

    async def test_a_removed_one_stays_removed(self, stack: Stack) -> None:
        device = await pair(stack)
        async with Operator(stack, stack.approvals[0]) as operator:
            (await operator.remove(device.device_id)).ok()
            stack.redis.kill9()
            stack.redis.start()
            await until_all_ready(stack)
        refused = await device.expect_refusal(stack.gateways[0], with_gateway_token=False)
        assert refused.detail_code == "AUTH_DEVICE_TOKEN_MISMATCH"
        await device.request_pairing(stack.gateways[1])

    async def test_an_approve_that_gets_no_answer_may_be_repeated(self, stack: Stack) -> None:
        device = SimulatedDevice(stack)
        request_id = await device.request_pairing(stack.gateways[0])
        async with Operator(stack, stack.approvals[0]) as operator:
            stack.redis.pause()
            reply = await operator.approve(request_id)
            assert reply.status == 503
            assert reply.body["type"].endswith(":store-unavailable")
            stack.redis.resume()
            await until_all_ready(stack)
            (await operator.approve(request_id)).ok()
            assert await operator.audit(device.device_id) == ["requested", "approved"]
        await device.reconnect(stack.gateways[0])


class TestAnonymous:
    """The default user may write, which the append-only file needs; no client can log in as it."""

    @pytest.mark.parametrize("password", [None, "", "default"])
    def test_nobody_can_log_in_as_the_default_user(
        self, stack: Stack, password: str | None
    ) -> None:
        once = Retry(NoBackoff(), 0)
        with redis_py.Redis(port=stack.redis.port, password=password, retry=once) as client:
            for call in (client.ping, lambda: client.set("latchkey:x", "1"), client.dbsize):
                with pytest.raises(redis_py.AuthenticationError):
                    call()


class TestForgotten:
    async def test_after_flushall_nobody_is_admitted(self, stack: Stack) -> None:
        devices = [await pair(stack, profile) for profile in (CLI, NODE_HOST)]
        stack.redis.call("FLUSHALL")
        for gateway in stack.gateways:
            for device in devices:
                refused = await device.expect_refusal(gateway, with_gateway_token=False)
                assert refused.detail_code == "AUTH_DEVICE_TOKEN_MISMATCH"
                await device.request_pairing(gateway)
        for device in devices:
            request_id = await device.request_pairing(stack.gateways[0])
            async with Operator(stack, stack.approvals[1]) as operator:
                (await operator.approve(request_id)).ok()
            await device.reconnect(stack.gateways[1])


class TestManyCuts:
    async def test_devices_that_retry_all_the_while_are_admitted_only_when_approved(
        self, stack: Stack
    ) -> None:
        device, stranger = await pair(stack), SimulatedDevice(stack)
        over = asyncio.Event()

        async def attempt(at: int) -> list[Refused]:
            refusals = []
            while not over.is_set():
                refusals.append(await stranger.expect_refusal(stack.gateways[at]))
            return refusals

        attempts = [asyncio.create_task(attempt(at)) for at in (0, 1)]
        for mode in ("killed", "stopped"):
            await asyncio.to_thread(bring_back, stack, mode)
            await until_all_ready(stack)
            await device.reconnect(stack.gateways[0], with_gateway_token=False)
        over.set()
        seen = [refused for task in attempts for refused in await task]
        assert {refused.code for refused in seen} <= {"UNAVAILABLE", "NOT_PAIRED"}
        request_ids = {refused.request_id for refused in seen if refused.code == "NOT_PAIRED"}
        assert len(request_ids) == 1, "no outage made the device request pairing again"
