"""Clients that have the gateway token and no device flood a gateway: devices find their places."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest

from services.gateway.connections.places import ALL, OF_DEVICE, WITHOUT_DEVICE
from shared.device.errors import DeviceClientError
from shared.device.handshake import Admitted
from tests.e2e.crowd import client_at, running
from tools.support.actors import pair, wait_for_log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from shared.device.client import DeviceClient
    from tests.conftest import StartStack
    from tools.support.actors import SimulatedDevice
    from tools.support.processes.stack import Stack

PLACES: Final = 24
WITHOUT: Final = 6
"""How many clients without a device one address may have."""
PER_DEVICE: Final = 3
ATTEMPTS: Final = 20
AT_ONCE: Final = 8
"""Clients of one flooding address."""
ONE_ADDRESS: Final = ("192.0.2.1",)
MANY_ADDRESSES: Final = tuple(f"198.51.100.{number}" for number in range(6))
ONE_NETWORK: Final = tuple(f"2001:db8:1:{part}::1" for part in range(12))
"""/64s of one /48; together they may have more than all places."""


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """One approval and one small gateway, behind a proxy that names the client's address."""
    return start_stack(
        approvals=1,
        gateways=1,
        env={"TRUSTED_PROXIES": "127.0.0.1"},
        gateway_env={
            "GATEWAY_CONNECTION_LIMIT": str(PLACES),
            "GATEWAY_CONNECTION_LIMIT_PER_ADDRESS": str(PLACES),
            "GATEWAY_CONNECTION_LIMIT_PER_DEVICE": str(PER_DEVICE),
            "GATEWAY_PREAUTH_LIMIT_PER_ADDRESS": str(WITHOUT),
        },
    )


async def _keep_connecting(stack: Stack, address: str) -> None:
    """Connect without a device, stay as long as the gateway allows it, and come back at once."""
    while True:
        client = client_at(stack, address)
        try:
            async with client:
                if isinstance(await client.connect(), Admitted):
                    await client.closed()
        except DeviceClientError:
            await asyncio.sleep(0.02)


@asynccontextmanager
async def flood(stack: Stack, addresses: Sequence[str]) -> AsyncIterator[None]:
    """Flood from these addresses; the body runs once the first was displaced."""
    reason = WITHOUT_DEVICE if len(addresses) == 1 else ALL
    clients = [address for address in addresses for _ in range(AT_ONCE)]
    async with running(_keep_connecting(stack, address) for address in clients):
        await wait_for_log(stack.gateways[0], "connection.closed", reason=reason.displaced)
        yield


def at(device: SimulatedDevice, address: str) -> DeviceClient:
    """Return a client of a device at an address."""
    return client_at(device.stack, address, device.key, device.profile)


@pytest.mark.parametrize(
    "addresses",
    [ONE_ADDRESS, MANY_ADDRESSES, ONE_NETWORK],
    ids=["one address", "six addresses", "twelve /64s of one /48"],
)
async def test_a_paired_device_gets_in_every_time(stack: Stack, addresses: Sequence[str]) -> None:
    device, resident = await pair(stack), await pair(stack)
    async with at(resident, "203.0.113.1") as session:
        assert isinstance(await session.connect(), Admitted)
        async with flood(stack, addresses):
            for _ in range(ATTEMPTS):
                async with at(device, "203.0.113.2") as client:
                    assert isinstance(await client.connect(), Admitted)
            assert (await session.call("health")).ok


async def test_a_device_displaces_its_oldest_connection(stack: Stack) -> None:
    device = await pair(stack)
    clients = [at(device, "203.0.113.3") for _ in range(PER_DEVICE + 1)]
    try:
        for client in clients:
            await client.open()
            assert isinstance(await client.connect(), Admitted)
        line, *_ = await wait_for_log(
            stack.gateways[0], "connection.closed", device=device.device_id
        )
        assert (line["code"], line["reason"]) == (1013, OF_DEVICE.displaced)
        assert line["address"] == "203.0.113.3"
    finally:
        for client in clients:
            await client.close()
