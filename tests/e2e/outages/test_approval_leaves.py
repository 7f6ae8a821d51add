"""An approval that is stopped answers pending requests and exits within a bounded time."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from services.approval.__main__ import STOP_SECONDS
from shared.device.handshake import Admitted
from shared.device.profile import CLI, CLI_3, NODE_HOST
from tools.support.actors import Operator, SimulatedDevice, log_lines, pair

if TYPE_CHECKING:
    from tests.conftest import StartStack
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack

ROUNDS = 2
READ_SECONDS = 20.0


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two approvals and two gateways, for the whole module."""
    room = {"PENDING_LIMIT": "100000", "PENDING_LIMIT_PER_ADDRESS": "100000"}
    return start_stack(approvals=2, gateways=2, approval_env=room)


async def come_and_go(
    device: SimulatedDevice, gateway: ServiceProcess, over: asyncio.Event
) -> list[object]:
    """Connect repeatedly with only the device token; returns each outcome."""
    outcomes: list[object] = []
    while not over.is_set():
        async with device.client(gateway, with_gateway_token=False) as client:
            outcomes.append(await client.connect())
    return outcomes


async def new_ones(
    stack: Stack, gateway: ServiceProcess, over: asyncio.Event
) -> list[SimulatedDevice]:
    """Send requests for one new device after another; each must become pending."""
    strangers = []
    while not over.is_set():
        stranger = SimulatedDevice(stack)
        await stranger.request_pairing(gateway)
        strangers.append(stranger)
    return strangers


async def test_one_after_the_other_no_admission_fails_and_nothing_is_done_twice(
    stack: Stack,
) -> None:
    devices = [await pair(stack, profile) for profile in (CLI, CLI_3, NODE_HOST)]
    over = asyncio.Event()
    coming = [
        asyncio.create_task(come_and_go(device, gateway, over))
        for device in devices
        for gateway in stack.gateways
    ]
    asking = [asyncio.create_task(new_ones(stack, gateway, over)) for gateway in stack.gateways]
    for _ in range(ROUNDS):
        for approval in stack.approvals:
            approval.terminate()
            assert await approval.until_ended() == 0
            assert log_lines(approval, "approval.stopped")
            approval.start()
            await approval.until_ready()
    over.set()
    for outcomes in await asyncio.gather(*coming):
        assert len(outcomes) > 10 * ROUNDS
        assert [outcome for outcome in outcomes if not isinstance(outcome, Admitted)] == []
    strangers = [item.device_id for some in await asyncio.gather(*asking) for item in some]
    done = await what_was_done(stack)
    assert [done[device_id] for device_id in strangers] == [["requested"]] * len(strangers)


async def what_was_done(stack: Stack) -> dict[str, list[str]]:
    """Return the audit log's entries by device."""
    done: dict[str, list[str]] = {}
    after = 0
    async with Operator(stack, stack.approvals[0]) as operator:
        while entries := (await operator.call("GET", f"audit?after={after}&limit=1000")).ok()[
            "entries"
        ]:
            for entry in entries:
                done.setdefault(entry["deviceId"], []).append(entry["action"])
            after = entries[-1]["id"]
    return done


async def half_a_call(approval: ServiceProcess, token: str) -> asyncio.StreamWriter:
    """Send a call without the end of its body."""
    _, writer = await asyncio.open_connection("127.0.0.1", approval.port)
    writer.write(
        f"POST /v1/requests/x/approve HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{".encode()
    )
    await writer.drain()
    return writer


async def half_a_head(approval: ServiceProcess) -> asyncio.StreamWriter:
    """Send only the first line of a call."""
    _, writer = await asyncio.open_connection("127.0.0.1", approval.port)
    writer.write(b"GET /v1/devices HTTP/1.1\r\n")
    await writer.drain()
    return writer


async def test_it_leaves_in_time_whatever_clients_do(stack: Stack) -> None:
    leaving, staying = stack.approvals
    device = await pair(stack)
    bearer = {"Authorization": f"Bearer {stack.admin_token}"}
    async with AsyncExitStack() as open_now:
        http = await open_now.enter_async_context(
            aiohttp.ClientSession(headers=bearer, timeout=aiohttp.ClientTimeout(total=READ_SECONDS))
        )
        listening = await open_now.enter_async_context(http.get(f"{leaving.url}/v1/events"))
        assert await listening.content.readline() == b"retry: 1000\n"
        idle = await open_now.enter_async_context(http.get(f"{leaving.url}/readyz"))
        await idle.read()
        for writer in (
            await half_a_call(leaving, stack.admin_token),
            await half_a_head(leaving),
        ):
            open_now.callback(writer.close)
        began = time.monotonic()
        leaving.terminate()
        rest = await listening.content.read()
        assert rest.endswith(b"\n\n"), (
            "the stream ends after a complete event, and its end is announced"
        )
        assert await leaving.until_ended(seconds=STOP_SECONDS + 1) == 0
        assert time.monotonic() - began < STOP_SECONDS + 1
        for gateway in stack.gateways:
            await device.connect_once(gateway, with_gateway_token=False)
        async with Operator(stack, staying) as operator:
            replicas: dict[str, Any] = (await operator.call("GET", "replicas")).ok()
        assert [approval["bootId"] for approval in replicas["approvals"]] == [staying.boot_id]
    leaving.start()
    await leaving.until_ready()


async def test_without_redis_it_leaves_in_time_too(stack: Stack) -> None:
    leaving, _ = stack.approvals
    stack.redis.pause()
    try:
        began = time.monotonic()
        leaving.terminate()
        assert await leaving.until_ended(seconds=STOP_SECONDS + 1) == 0
        assert time.monotonic() - began < STOP_SECONDS + 1
    finally:
        stack.redis.resume()
    leaving.start()
    for service in stack.services:
        await service.until_ready()


async def test_a_call_under_way_is_answered(stack: Stack) -> None:
    """The call waits for Redis while the replica is stopped."""
    leaving, _ = stack.approvals
    device = SimulatedDevice(stack)
    request_id = await device.request_pairing(stack.gateways[0])
    async with Operator(stack, leaving) as operator, aiohttp.ClientSession() as http:
        stack.redis.pause()
        try:
            approving = asyncio.create_task(operator.approve(request_id))
            async with http.get(f"{leaving.url}/livez") as answer:
                assert answer.status == 200
            leaving.terminate()
            await leaving.until_not_ready()
        finally:
            stack.redis.resume()
        (await approving).ok()
    assert await leaving.until_ended(seconds=STOP_SECONDS + 1) == 0
    await device.connect_once(stack.gateways[1])
    leaving.start()
    await leaving.until_ready()
