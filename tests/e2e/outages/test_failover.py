"""Another Redis becomes the master while connections to the old one stay open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.cli.doctor import redis_causes
from shared.device.profile import CLI
from shared.redis.sentences import READ_ONLY
from tests.support.failover import fail_over
from tests.support.sentinel_stack import said_of
from tools.support.actors import Operator, SimulatedDevice
from tools.support.processes.redis import RedisServer
from tools.support.processes.stack import Stack
from tools.support.proxies.faults import FaultProxy
from tools.support.waiting import until
from tools.support.walking import stopped_by

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tools.support.processes.service import ServiceProcess


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Return an approval and a gateway that are not started, with a running Redis."""
    stack = Stack(tmp_path, approvals=1, gateways=1)
    try:
        stack.redis.start()
        yield stack
    finally:
        stack.close()


@pytest.fixture
def other(stack: Stack, tmp_path: Path) -> Iterator[RedisServer]:
    """Return another Redis with the same users, as a replica of the first."""
    directory = tmp_path / "other"
    directory.mkdir()
    with RedisServer(directory) as server:
        server.take_users(stack.redis)
        server.follow(stack.redis)
        yield server


def events(service: ServiceProcess, name: str) -> list[object]:
    return [line for line in service.logs() if line.get("event") == name]


async def start(stack: Stack, way: FaultProxy) -> None:
    """Start the services with their Redis at the end of this path."""
    for kind, url in (
        (stack.approvals, stack.redis.approval_url),
        (stack.gateways, stack.redis.gateway_url),
    ):
        for service in kind:
            service.start(REDIS_URL=url.replace(str(stack.redis.port), str(way.port)))
    for service in stack.services:
        await service.until_ready()


def nobody_is_left(server: RedisServer) -> bool:
    """Return whether no service uses this server any more."""
    return {server.call("CLIENT", "KILL", "TYPE", kind) for kind in ("normal", "pubsub")} == {"0"}


async def a_device_is_approved(stack: Stack) -> None:
    device = SimulatedDevice(stack, CLI)
    request_id = await device.request_pairing(stack.gateways[0])
    async with Operator(stack, stack.approvals[0]) as operator:
        (await operator.approve(request_id)).ok()
    await device.connect_once(stack.gateways[0])


async def test_both_services_go_over_to_the_new_master(stack: Stack, other: RedisServer) -> None:
    (approval,), (gateway,) = stack.approvals, stack.gateways
    async with FaultProxy(stack.redis.port) as way:
        await start(stack, way)
        fail_over(stack.redis, other, way)
        await until(lambda: events(approval, "redis.demoted"), "approval has noticed")
        await until(lambda: events(gateway, "bus_renewed"), "the gateway has noticed")
        for service in stack.services:
            await service.until_ready()
        await a_device_is_approved(stack)
        assert not events(gateway, "lease.lost")
        assert nobody_is_left(stack.redis)


async def test_a_gateway_finds_an_approval_that_is_new_at_the_new_master(
    stack: Stack, other: RedisServer
) -> None:
    (approval,), (gateway,) = stack.approvals, stack.gateways
    async with FaultProxy(stack.redis.port) as way:
        await start(stack, way)
        approval.kill9()
        fail_over(stack.redis, other, way)
        approval.start()
        await until(lambda: events(gateway, "bus_renewed"), "the gateway has noticed")
        for service in stack.services:
            await service.until_ready()
        await a_device_is_approved(stack)
        assert len(events(gateway, "bus_renewed")) == 1
        assert nobody_is_left(stack.redis)


async def test_a_gateway_does_not_renew_its_connections_because_approval_ended(
    stack: Stack,
) -> None:
    (approval,), (gateway,) = stack.approvals, stack.gateways
    async with FaultProxy(stack.redis.port) as way:
        await start(stack, way)
        approval.kill9()
        await gateway.until_not_ready()
        assert not events(gateway, "bus_renewed")


async def test_an_address_that_leads_to_a_replica_is_named_and_admits_nobody(
    stack: Stack, other: RedisServer
) -> None:
    (approval,), (gateway,) = stack.approvals, stack.gateways
    for service, url in (
        (approval, stack.redis.approval_url),
        (gateway, stack.redis.gateway_url),
    ):
        service.start(REDIS_URL=url.replace(str(stack.redis.port), str(other.port)))
        await service.until_not_ready()
    await until(lambda: said_of(approval, "store")["reason"] == READ_ONLY, "readiness says why")
    (line, *_) = events(approval, "store.unavailable")
    assert READ_ONLY in str(line)
    refused = await SimulatedDevice(stack, CLI).expect_refusal(gateway)
    assert refused.code == "UNAVAILABLE"
    env = {"OPENCLAW_GATEWAY_TOKEN": stack.gateway_token, "APPROVAL_URL": approval.url}
    await stopped_by(gateway.ws_url, redis_causes.READ_ONLY, env=env)
