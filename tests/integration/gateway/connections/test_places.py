"""Who has a place while clients without a device flood the gateway."""

from __future__ import annotations

import asyncio
import ipaddress
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from services.gateway.connections.places import (
    ALL,
    CLOSING_ROOM,
    OF_ADDRESS,
    OF_DEVICE,
    WITHOUT_DEVICE,
)
from services.gateway.http.limits import HTTP_ROOM
from shared.device.handshake import Credentials
from shared.device.identity import DeviceKey
from shared.device.profile import CLI
from tests.integration.gateway.harness import TOKEN, GatewayHarness
from tests.support.websocket.raw_socket import PING, PONG, RawSocket
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GOOD = Credentials(token=TOKEN)
ATTEMPTS = 20
PLACES = 40
PREAUTH_LIMIT = 8
FLOODING = tuple(f"127.0.0.{number}" for number in range(100, 108))
"""Together they may have more than all places."""
TRUSTED = (ipaddress.ip_network("127.0.0.1"),)


def metric(harness: GatewayHarness, name: str, limit: str) -> float:
    value = harness.metrics.registry.get_sample_value(
        f"latchkey_gateway_{name}_total", {"limit": limit}
    )
    return value or 0.0


async def device_at(
    harness: GatewayHarness, source: str, key: DeviceKey | None = None
) -> RawSocket:
    """Connect a paired device."""
    raw = await harness.raw(source=source)
    assert raw.status == 101, raw.body
    assert (await raw.connect(key or DeviceKey.generate(), CLI, GOOD))["ok"]
    return raw


async def is_served(raw: RawSocket) -> bool:
    await raw.send(b"there?", PING)
    return (await raw.receive()).opcode == PONG


async def _flood_from(harness: GatewayHarness, source: str, *, silent: bool) -> None:
    """Open sockets without a pause, and keep each as long as the gateway does."""
    kept = []
    try:
        while True:
            raw = await RawSocket.open(harness.port, source=source)
            kept.append(raw)
            if raw.status == 101 and not silent:
                await raw.challenge()
                await raw.send_json(raw.connect_frame(None, CLI, GOOD))
            while len(kept) > 3 * PREAUTH_LIMIT:
                kept.pop(0).hang_up()
            await asyncio.sleep(0)
    finally:
        for raw in kept:
            raw.hang_up()


@asynccontextmanager
async def flood(harness: GatewayHarness, *, silent: bool) -> AsyncIterator[None]:
    """Flood from all addresses; the body runs once newcomers have displaced others."""
    tasks = [
        asyncio.create_task(_flood_from(harness, source, silent=silent)) for source in FLOODING
    ]
    try:
        await until(lambda: metric(harness, "displaced", "all") > 0, "all places are taken")
        yield
        assert not any(task.done() for task in tasks), [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class TestFlood:
    async def test_one_address_does_not_take_all_places(self) -> None:
        async with GatewayHarness(connection_limit=PLACES, preauth_limit=PREAUTH_LIMIT) as harness:
            flooding = []
            for _ in range(2 * PLACES):
                raw = await harness.raw(source="127.0.0.100")
                if raw.status == 101:
                    await raw.connect(None, CLI, GOOD)
                    flooding.append(raw)
            deviceless = harness.connections.places.deviceless
            assert list(deviceless) == ["127.0.0.100"]
            assert len(deviceless["127.0.0.100"]) == PREAUTH_LIMIT
            assert await flooding[0].closed() == (1013, WITHOUT_DEVICE.displaced)
            devices = [await device_at(harness, "127.0.0.2") for _ in range(ATTEMPTS)]
            devices += [await device_at(harness, "127.0.0.100") for _ in range(3)]
            for device in devices:
                assert await is_served(device)

    async def test_a_paired_device_gets_in_while_admitted_clients_flood(self) -> None:
        await self._get_in(silent=False)

    async def test_a_paired_device_gets_in_while_silent_clients_flood(self) -> None:
        await self._get_in(silent=True)

    async def _get_in(self, *, silent: bool) -> None:
        async with GatewayHarness(connection_limit=PLACES, preauth_limit=PREAUTH_LIMIT) as harness:
            before = [await device_at(harness, "127.0.0.2") for _ in range(5)]
            async with flood(harness, silent=silent):
                during = [await device_at(harness, "127.0.0.3") for _ in range(ATTEMPTS)]
                assert len(harness.connections) <= PLACES + CLOSING_ROOM + HTTP_ROOM
                for device in [*before, *during]:
                    assert await is_served(device)
            assert metric(harness, "turned_away", "all") == 0

    async def test_a_handshake_in_progress_survives_the_flood(self) -> None:
        async with GatewayHarness(connection_limit=PLACES, preauth_limit=PREAUTH_LIMIT) as harness:
            slow = await harness.raw(source="127.0.0.2")
            async with flood(harness, silent=True):
                displaced = metric(harness, "displaced", "all")
                await until(
                    lambda: metric(harness, "displaced", "all") > displaced + 2 * PLACES,
                    "the flood displaces its own",
                )
                assert (await slow.connect(DeviceKey.generate(), CLI, GOOD))["ok"]

    async def test_only_devices_fill_the_gateway(self) -> None:
        async with GatewayHarness(connection_limit=3) as harness:
            stranger = await harness.raw(source="127.0.0.9")
            for number in range(3):
                await device_at(harness, f"127.0.0.{number + 2}")
            assert await stranger.challenge()
            assert await stranger.closed() == (1013, ALL.displaced)
            refused = await harness.raw(source="127.0.0.9")
            assert (refused.status, refused.body) == (503, ALL.refusal.encode())
            assert metric(harness, "turned_away", "all") == 1


class TestPerDevice:
    async def test_a_device_replaces_its_dead_sockets(self) -> None:
        key = DeviceKey.generate()
        async with GatewayHarness(per_device=2) as harness:
            dead = [await device_at(harness, "127.0.0.2", key) for _ in range(2)]
            live = [await device_at(harness, "127.0.0.3", key) for _ in range(2)]
            for raw in dead:
                assert await raw.closed() == (1013, OF_DEVICE.displaced)
            for raw in live:
                assert await is_served(raw)
            assert metric(harness, "displaced", "device") == 2


class TestPerAddress:
    async def test_devices_of_one_client_behind_a_trusted_proxy_are_limited(self) -> None:
        async with GatewayHarness(per_address=2, trusted_proxies=TRUSTED) as harness:
            at = [("X-Real-IP", "192.0.2.1")]
            held = [await harness.raw(headers=at) for _ in range(2)]
            for raw in held:
                assert (await raw.connect(DeviceKey.generate(), CLI, GOOD))["ok"]
            refused = await harness.raw(headers=at)
            assert (refused.status, refused.body) == (503, OF_ADDRESS.refusal.encode())
            assert refused.headers["retry-after"] == "2"
            assert metric(harness, "turned_away", "address-connections") == 1
            elsewhere = await harness.raw(headers=[("X-Real-IP", "192.0.2.2")])
            assert (await elsewhere.connect(DeviceKey.generate(), CLI, GOOD))["ok"]
            held[0].reset()
            await until(lambda: len(harness.connections) == 2, "one of the two is gone")
            again = await harness.raw(headers=at)
            assert (await again.connect(DeviceKey.generate(), CLI, GOOD))["ok"]

    async def test_a_trusted_proxy_that_names_no_client_is_exempt(self) -> None:
        async with GatewayHarness(per_address=2, trusted_proxies=TRUSTED) as harness:
            for _ in range(4):
                raw = await harness.raw()
                assert (await raw.connect(DeviceKey.generate(), CLI, GOOD))["ok"]
        async with GatewayHarness(per_address=2) as harness:
            for _ in range(2):
                await device_at(harness, "127.0.0.1")
            assert (await harness.raw()).body == OF_ADDRESS.refusal.encode()
