"""The services work with the restricted Redis users of `make run`, on each Redis version."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import pytest

from services.approval.backup.format import read
from tests.support.redis_kinds import KINDS, binary_of
from tools.support.actors import Operator, SimulatedDevice, pair
from tools.support.processes.stack import Stack
from tools.support.waiting import POLL_SECONDS, WAIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.xdist_group("the users of Redis")


@pytest.fixture(scope="module", params=KINDS)
def stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    binary = binary_of(request.param)
    with Stack(tmp_path_factory.mktemp("stack"), approvals=2, redis=binary) as running:
        yield running


async def store_warnings(stack: Stack) -> list[str]:
    """Return approval's warnings about the durability of Redis."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{stack.approvals[0].url}/readyz") as answer,
    ):
        body: dict[str, Any] = await answer.json()
    warnings: list[str] = body["dependencies"]["store"].get("warnings", [])
    return warnings


async def kept_and_brought_back(stack: Stack) -> None:
    """Back up one device, remove it, and restore the backup."""
    device = await pair(stack)
    async with Operator(stack, stack.approvals[0]) as operator:
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {stack.admin_token}"}) as http,
            http.get(f"{stack.approvals[0].url}/v1/backup") as answer,
        ):
            found = read((await answer.read()).splitlines(keepends=True))
        (await operator.remove(device.device_id)).ok()
        part = {"backupId": found.id, "number": found.number, "total": 1, "at": 0}
        devices = msgspec.to_builtins(list(found.devices.values()))
        (await operator.call("POST", "restore", {**part, "devices": devices})).ok()
        await device.reconnect(stack.gateways[1], with_gateway_token=False)
        (await operator.remove(device.device_id)).ok()


async def listed_as_refused(stack: Stack, device_id: str) -> None:
    """Wait until operators see that a device was refused."""
    async with Operator(stack, stack.approvals[0]) as operator, asyncio.timeout(WAIT_SECONDS):
        path = f"refusals?deviceId={device_id}"
        while True:
            if (await operator.call("GET", path)).ok()["refusals"]:
                return
            await asyncio.sleep(POLL_SECONDS)


async def test_redis_refuses_its_users_nothing_they_need(stack: Stack) -> None:
    stranger = SimulatedDevice(stack)
    request_id = await stranger.request_pairing(stack.gateways[0])
    device = await pair(stack)
    client, _ = await device.stay_connected(stack.gateways[1])
    await listed_as_refused(stack, stranger.device_id)
    async with Operator(stack, stack.approvals[1]) as operator:
        for path in (
            "requests",
            "devices",
            f"devices/{device.device_id}",
            "replicas",
            "audit",
            "refusals",
        ):
            assert (await operator.call("GET", path)).status == 200
        label = await operator.call("PATCH", f"devices/{device.device_id}", {"label": "desk"})
        assert label.status == 200
        assert (await operator.call("POST", f"requests/{request_id}/reject")).status == 200
        assert (await operator.rotate(device.device_id)).status == 200
        assert (await operator.revoke(device.device_id)).status == 200
        assert (await operator.remove(device.device_id)).status == 200
        assert "removed" in await operator.audit(device.device_id)
        assert (await operator.call("GET", "audit?limit=1")).status == 200
        await kept_and_brought_back(stack)
    await client.close()
    assert stack.redis.call("ACL", "LOG") == "0"


async def test_the_store_is_as_durable_as_it_should_be_and_says_when_not(stack: Stack) -> None:
    assert await store_warnings(stack) == []
    stack.redis.call("CONFIG", "SET", "appendfsync", "everysec")
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                warnings = await store_warnings(stack)
                if warnings:
                    break
                await asyncio.sleep(POLL_SECONDS)
        assert [warning.partition(":")[0] for warning in warnings] == ["appendfsync is everysec"]
    finally:
        stack.redis.call("CONFIG", "SET", "appendfsync", "always")
