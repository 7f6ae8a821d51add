"""A draining gateway says so, closes connections a few at a time, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import aiohttp
import pytest

from shared.device.profile import CLI
from tests.support.websocket.raw_socket import RawSocket
from tools.support.actors import Operator, SimulatedDevice, pair
from tools.support.waiting import WAIT_SECONDS

if TYPE_CHECKING:
    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack

DRAIN_SECONDS = 4.0
SOCKETS = 12


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two gateways with a long drain period."""
    return start_stack(gateways=2, env={"DRAIN_SECONDS": str(DRAIN_SECONDS)})


async def gateways_listed(operator: Operator) -> int:
    """Return the number of live gateways."""
    return len((await operator.call("GET", "replicas")).ok()["gateways"])


async def test_closes_are_spread_and_the_rest_is_served_meanwhile(stack: Stack) -> None:
    leaving, staying = stack.gateways
    device = await pair(stack, CLI)
    now = asyncio.get_running_loop().time
    async with AsyncExitStack() as resources:
        operator = await resources.enter_async_context(Operator(stack, stack.approvals[0]))
        assert await gateways_listed(operator) == 2
        clients = [(await device.stay_connected(leaving))[0] for _ in range(SOCKETS)]
        for client in clients:
            resources.push_async_callback(client.close)
        silent = await resources.enter_async_context(await RawSocket.open(leaving.port))
        assert (await silent.receive_text())["event"] == "connect.challenge"
        leaving.terminate()
        began = now()

        async def ended(index: int) -> tuple[float, tuple[int, str]]:
            received = await clients[index].next_event("shutdown", within=WAIT_SECONDS)
            assert received.payload == {"reason": "gateway stopping"}
            close = await clients[index].closed(within=2 * DRAIN_SECONDS)
            return now() - began, close

        ends = sorted(await asyncio.gather(*map(ended, range(SOCKETS))))
        assert {close for _at, close in ends} == {(1012, "service restart")}
        assert ends[-1][0] - ends[0][0] > DRAIN_SECONDS / 4, "they went all at once"
        assert await leaving.until_ended() == 0
        assert await gateways_listed(operator) == 1, "its presence is withdrawn before it ends"
        await device.connect_once(staying)
    leaving.start()
    await leaving.until_ready()


async def test_it_is_not_ready_and_takes_nobody_while_it_leaves(stack: Stack) -> None:
    leaving = stack.gateways[0]
    device = await pair(stack, CLI)
    async with AsyncExitStack() as resources:
        http = await resources.enter_async_context(aiohttp.ClientSession())
        async with http.get(f"{leaving.url}/readyz") as answer:  # a connection that is kept
            assert answer.status == 200
        client, _ = await device.stay_connected(leaving)
        resources.push_async_callback(client.close)
        leaving.terminate()
        await client.next_event("shutdown", within=WAIT_SECONDS)
        async with http.get(f"{leaving.url}/readyz") as answer:
            assert answer.status == 503
            body = await answer.json()
        assert body["dependencies"]["process"]["reason"] == "this replica is draining"
        with pytest.raises(OSError, match="Connect"):
            await asyncio.open_connection("127.0.0.1", leaving.port)
        newcomer = SimulatedDevice(stack, CLI)
        await newcomer.request_pairing(stack.gateways[1])
        assert await leaving.until_ended() == 0
    leaving.start()
    await leaving.until_ready()
