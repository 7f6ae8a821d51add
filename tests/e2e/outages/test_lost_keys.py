"""Redis keys that are deleted or overwritten, seen from the outside."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest

from services.approval.storage.keys import CHANGES, HEAD, PAIRED, device_key
from shared.device.profile import CLI, CLI_3
from tools.support.actors import Operator, pair

if TYPE_CHECKING:
    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack

LEASE_SECONDS: Final = 4.0
MARGIN_SECONDS: Final = 2.0
CLOSED_BY_REVOKE: Final = 4001
CLOSED_TO_BE_JUDGED_ANEW: Final = 1012


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two approvals and two gateways with a short lease, for the whole module."""
    beat = {"BEAT_SECONDS": "0.3", "LEASE_SECONDS": str(LEASE_SECONDS)}
    return start_stack(approvals=2, gateways=2, gateway_env=beat)


async def warnings_of(stack: Stack) -> list[list[str]]:
    """Return each approval's readiness warnings about records."""
    found = []
    async with aiohttp.ClientSession() as session:
        for approval in stack.approvals:
            async with session.get(f"{approval.url}/readyz") as answer:
                records = (await answer.json())["dependencies"]["records"]
            found.append(records.get("warnings", []))
    return found


@pytest.mark.parametrize("profile", [CLI, CLI_3], ids=["protocol 4", "protocol 3"])
@pytest.mark.parametrize("key", [HEAD, CHANGES])
async def test_a_device_removed_after_a_key_was_lost_is_closed_and_all_are_checked_again(
    stack: Stack, profile: Any, key: str
) -> None:
    removed, stays = await pair(stack, profile), await pair(stack, profile)
    first, _ = await removed.stay_connected(stack.gateways[0])
    second, _ = await stays.stay_connected(stack.gateways[1])
    async with first, second, Operator(stack, stack.approvals[0]) as operator:
        await asyncio.to_thread(stack.redis.call, "DEL", key)
        (await operator.remove(removed.device_id)).ok()
        close = await first.closed(within=LEASE_SECONDS + MARGIN_SECONDS)
        assert close.code in {CLOSED_BY_REVOKE, CLOSED_TO_BE_JUDGED_ANEW}
        close = await second.closed(within=LEASE_SECONDS + MARGIN_SECONDS)
        assert close.code == CLOSED_TO_BE_JUDGED_ANEW
        await stays.reconnect(stack.gateways[0])
        assert (await removed.expect_refusal(stack.gateways[1])).detail_code == "PAIRING_REQUIRED"
        assert (await operator.audit(removed.device_id)).count("removed") == 1
    async with asyncio.timeout(20):
        while not all(key in str(item) for item in await warnings_of(stack)):  # noqa: ASYNC110
            await asyncio.sleep(0.2)


async def test_an_unreadable_record_is_unknown_and_everybody_else_is_served(
    stack: Stack,
) -> None:
    broken, well = await pair(stack), await pair(stack)
    await asyncio.to_thread(stack.redis.call, "SET", device_key(broken.device_id), "cut short")
    refused = await broken.expect_refusal(stack.gateways[0])
    assert refused.code == "UNAVAILABLE"
    assert refused.error is not None
    assert refused.error["retryable"] is True
    inside, _ = await well.stay_connected(stack.gateways[0])
    async with inside, Operator(stack, stack.approvals[0]) as operator:
        listed = (await operator.call("GET", "devices")).ok()
        assert listed["unreadable"] == [{"deviceId": broken.device_id}]
        assert well.device_id in {device["deviceId"] for device in listed["devices"]}
        (await operator.remove(broken.device_id)).ok()
    assert (await broken.expect_refusal(stack.gateways[0])).detail_code == "PAIRING_REQUIRED"


async def test_a_lost_index_is_rebuilt_by_itself(stack: Stack) -> None:
    device = await pair(stack)
    await asyncio.to_thread(stack.redis.call, "DEL", PAIRED)

    async def listed() -> bool:
        async with Operator(stack, stack.approvals[1]) as operator:
            return device.device_id in await operator.devices()

    async with asyncio.timeout(20):
        while not await listed():  # noqa: ASYNC110 (another process does it)
            await asyncio.sleep(0.2)
