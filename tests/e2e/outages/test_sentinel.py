"""Redis with sentinels: the primary fails, is cut off, or returns; sentinels fail."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from services.cli.doctor import redis_causes
from shared.device.profile import CLI
from tests.support.sentinel_stack import events, said_of, sentinel_stack
from tools.support.actors import Operator, SimulatedDevice, pair
from tools.support.waiting import until
from tools.support.walking import stopped_by, warned_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.sentinel_stack import SentinelStack
    from tools.support.processes.redis import RedisServer
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack

AGAIN_SECONDS = 3.0
"""Admissions succeed again within this time of a failover."""

RETURNED_SECONDS = 2.0
"""How long an old primary is watched after its return."""


@pytest.fixture
async def started(tmp_path: Path) -> AsyncIterator[SentinelStack]:
    """Return a stack whose Redis has sentinels."""
    async with sentinel_stack(tmp_path) as started:
        yield started


def password_of(url: str) -> str:
    return url.partition("@")[0].rpartition(":")[2]


def nobody_is_left(server: RedisServer) -> bool:
    """Return whether no service is connected to this server."""
    return {server.call("CLIENT", "KILL", "USER", user) for user in ("gateway", "approval")} == {
        "0"
    }


async def admitted(device: SimulatedDevice, gateway: ServiceProcess) -> None:
    """Connect until the device is admitted; it may be told to retry, but nothing else."""
    async with asyncio.timeout(AGAIN_SECONDS):
        await device.reconnect(gateway)


async def remove(stack: Stack, device: SimulatedDevice) -> None:
    async with Operator(stack, stack.approvals[0]) as operator:
        (await operator.remove(device.device_id)).ok()


class TestFailover:
    @pytest.mark.parametrize("how", ["killed", "paused", "cut off"])
    async def test_admissions_continue_at_the_new_primary(
        self, started: SentinelStack, how: str
    ) -> None:
        redis, stack = started.redis, started.stack
        device, removed = await pair(stack), await pair(stack)
        await remove(stack, removed)
        old = redis.primary()
        if how == "killed":
            old.kill9()
        elif how == "paused":
            old.pause()
        else:
            started.peers_of(old).hold()
        await started.failed_over()
        for gateway in stack.gateways:
            await admitted(device, gateway)
            await removed.request_pairing(gateway)
        await started.ready()
        if how == "cut off":
            assert nobody_is_left(old), "the old primary still answers, and is not used"
        await pair(stack)
        old.bring_back()
        started.peers_of(old).pass_on()
        await remove(stack, device)
        await asyncio.sleep(RETURNED_SECONDS)
        assert nobody_is_left(old), "it has returned, and says for a while that it is the primary"
        refused = await device.expect_refusal(stack.gateways[0], with_gateway_token=False)
        assert refused.detail_code == "AUTH_DEVICE_TOKEN_MISMATCH"
        for gateway in stack.gateways:
            assert not events(gateway, "history.lost")
            assert len(events(gateway, "redis.failed-over")) == 1

    async def test_a_failover_that_forgot_a_change_is_lost_history(self, tmp_path: Path) -> None:
        async with sentinel_stack(tmp_path, min_replicas=0) as started:
            stack = started.stack
            stays, new = await pair(stack), SimulatedDevice(stack, CLI)
            request_id = await new.request_pairing(stack.gateways[0])
            started.peers_of(started.redis.primary()).hold()
            async with Operator(stack, stack.approvals[0]) as operator:
                unknown = await operator.approve(request_id)
                assert unknown.status == 503, "no replica has confirmed it"
                await started.failed_over()
                for gateway in stack.gateways:
                    await until(
                        lambda at=gateway: events(at, "history.lost"),  # type: ignore[misc]
                        "the gateway has noticed that history was lost",
                    )
                    await admitted(stays, gateway)
                assert new.device_id not in await operator.devices()
                (await operator.approve(request_id)).ok()
            await new.reconnect(stack.gateways[1])


class TestSentinels:
    async def test_without_most_sentinels_all_goes_on_until_the_primary_fails(
        self, started: SentinelStack
    ) -> None:
        redis, stack = started.redis, started.stack
        device, stranger = await pair(stack), SimulatedDevice(stack, CLI)
        redis.sentinels[0].kill9()
        redis.sentinels[1].pause()
        env = {
            "OPENCLAW_GATEWAY_TOKEN": stack.gateway_token,
            "APPROVAL_URL": stack.approvals[0].url,
        }
        for service, name in ((stack.gateways[0], "redis"), (stack.approvals[0], "bus")):
            await until(
                lambda at=service, of=name: (
                    "only 1 of 3 sentinels answer"  # type: ignore[misc]
                    in str(said_of(at, of).get("warnings"))
                ),
                "it warns",
            )
            assert len(events(service, "redis.sentinel-lost")) == 2
        await warned_of(stack.gateways[0].ws_url, redis_causes.SENTINEL_MINORITY, env=env)
        await device.reconnect(stack.gateways[0])
        primary = redis.primary()
        primary.kill9()
        await stack.gateways[0].until_not_ready()
        for one in (device, stranger):
            refused = await one.expect_refusal(stack.gateways[0])
            assert refused.code == "UNAVAILABLE"
        await started.bring_back()
        await started.ready()
        await device.reconnect(stack.gateways[0])
        await stranger.request_pairing(stack.gateways[1])


class TestWrongAddresses:
    async def test_each_is_said_in_a_sentence_and_nobody_is_admitted_or_asked_to_pair(
        self, started: SentinelStack
    ) -> None:
        redis, stack = started.redis, started.stack
        device = await pair(stack)
        server = redis.servers[0].gateway_url
        sentinel = redis.sentinels[0]
        replica = next(one for one in redis.servers if one is not redis.primary())
        cases = {
            redis_causes.SERVICE_UNKNOWN: redis.url(server, service="other"),
            redis_causes.SENTINEL_LOGIN: redis.gateway_url.replace("password=", "password=x"),
            redis_causes.NOT_SENTINEL: f"redis+sentinel://127.0.0.1:{replica.port}/latchkey/0"
            f"?sentinel_username=admin&sentinel_password={password_of(replica.admin_url)}",
            redis_causes.IS_SENTINEL: f"redis://default:{redis.sentinel_password}"
            f"@127.0.0.1:{sentinel.port}/0",
            redis_causes.SENTINELS_AWAY: "redis+sentinel://127.0.0.1:1,127.0.0.1:2/latchkey/0",
        }
        token = {"OPENCLAW_GATEWAY_TOKEN": stack.gateway_token}
        for cause, url in cases.items():
            gateway = stack._new_gateway({"REDIS_URL": url})
            gateway.start()
            await gateway.until_not_ready()
            refused = await device.expect_refusal(gateway)
            assert refused.code == "UNAVAILABLE"
            finding = await stopped_by(gateway.ws_url, cause, env=token)
            assert "redis: " in finding.found
            gateway.kill9()
