"""Replicas whose clocks are ten minutes apart."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import pytest

from shared.device.handshake import Challenge
from shared.device.profile import CLI, CLI_3, NODE_HOST
from tools.support.actors import Operator, SimulatedDevice, pair
from tools.support.processes.stack import Stack
from tools.support.waiting import POLL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

SKEW_MS: Final = 600_000
LEASE_SECONDS: Final = 3.0
PENDING_TTL_SECONDS: Final = 6
MARGIN_SECONDS: Final = 2.0
CLOSE_MS: Final = 60_000
"""Clocks that agree differ by no more than this."""
SITE: Final = '''\
"""Sets this process's wall clock off by SKEW_MS."""

import os
import time

_time, _time_ns, _skew_ms = time.time, time.time_ns, int(os.environ["SKEW_MS"])
time.time = lambda: _time() + _skew_ms / 1000
time.time_ns = lambda: _time_ns() + _skew_ms * 1_000_000
'''


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two approvals and two gateways; of each, one clock is ten minutes ahead and one behind."""
    directory = tmp_path_factory.mktemp("stack")
    (directory / "sitecustomize.py").write_text(SITE)
    common = {"PYTHONPATH": str(directory), "SKEW_MS": "0"}
    stack = Stack(
        directory,
        approvals=0,
        gateways=0,
        env=common,
        approval_env={"PENDING_TTL_SECONDS": str(PENDING_TTL_SECONDS)},
        gateway_env={"LEASE_SECONDS": str(LEASE_SECONDS), "BEAT_SECONDS": "0.3"},
    )
    with stack:
        for skew_ms in (SKEW_MS, -SKEW_MS):
            stack.add_approval(SKEW_MS=str(skew_ms))
        for skew_ms in (SKEW_MS, -SKEW_MS):
            stack.add_gateway(SKEW_MS=str(skew_ms))
        yield stack


@pytest.mark.parametrize(("at", "skew_ms"), [(0, SKEW_MS), (1, -SKEW_MS)])
async def test_the_clocks_are_apart(stack: Stack, at: int, skew_ms: int) -> None:
    """Precondition of the other tests: each gateway's challenge carries its own time."""
    async with SimulatedDevice(stack).client(stack.gateways[at]) as client:
        challenge = await client.challenge()
    assert isinstance(challenge, Challenge)
    assert abs(challenge.ts - now_ms() - skew_ms) < CLOSE_MS


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def test_devices_are_paired_admitted_and_revoked_in_time(stack: Stack) -> None:
    for number, profile in enumerate((CLI, CLI_3, NODE_HOST)):
        device = await pair(stack, profile)
        clients = [(await device.stay_connected(gateway))[0] for gateway in stack.gateways]
        async with clients[0], clients[1], Operator(stack, stack.approvals[number % 2]) as operator:
            (await operator.remove(device.device_id)).ok()
            for client in clients:
                assert (await client.closed()).code == 4001


async def test_leases_hold_as_long_as_heartbeats_are_answered_and_no_longer(
    stack: Stack,
) -> None:
    device = await pair(stack)
    clients = [(await device.stay_connected(gateway))[0] for gateway in stack.gateways]
    async with clients[0], clients[1]:
        began = time.monotonic()
        while time.monotonic() - began < 2 * LEASE_SECONDS:
            for client in clients:
                assert (await client.call("health")).ok
        stack.redis.pause()
        try:
            began = time.monotonic()
            closes = await asyncio.gather(
                *(client.closed(within=LEASE_SECONDS + MARGIN_SECONDS) for client in clients)
            )
            assert time.monotonic() - began < LEASE_SECONDS + MARGIN_SECONDS
        finally:
            stack.redis.resume()
    assert {close.code for close in closes} == {1013}
    for service in stack.services:
        await service.until_ready()
    await device.reconnect(stack.gateways[0], with_gateway_token=False)


async def test_a_request_lives_as_long_as_it_is_asked_for(stack: Stack) -> None:
    """Expiry follows the store's clock: neither approval ends it early or late."""
    device = SimulatedDevice(stack)
    request_id = await device.request_pairing(stack.gateways[0])
    asked_at_ms = 0
    for gateway, approval in zip(stack.gateways, stack.approvals, strict=True):
        assert await device.request_pairing(gateway) == request_id
        async with Operator(stack, approval) as operator:
            (listed,) = [
                request
                for request in await operator.pending()
                if request["requestId"] == request_id
            ]
        assert abs(listed["ts"] - now_ms()) < CLOSE_MS
        asked_at_ms = listed["lastAskedAtMs"]
    refused_from_ms = await ended(stack, request_id)
    assert refused_from_ms - asked_at_ms >= PENDING_TTL_SECONDS * 1000
    for approval in stack.approvals:
        async with Operator(stack, approval) as operator:
            assert (await operator.approve(request_id)).status == 410


async def ended(stack: Stack, request_id: str) -> int:
    """Wait until no approval lists a request; returns the time in ms."""
    for approval in stack.approvals:
        async with asyncio.timeout(PENDING_TTL_SECONDS + 10), Operator(stack, approval) as operator:
            while True:
                if request_id not in [request["requestId"] for request in await operator.pending()]:
                    break
                await asyncio.sleep(POLL_SECONDS)
    return now_ms()
