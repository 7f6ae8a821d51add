"""Devices behind a proxy, each with an address of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from shared.device.client import DeviceClient
from shared.device.handshake import Admitted
from shared.device.profile import CLI
from tools.support.actors import SimulatedDevice

if TYPE_CHECKING:
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack

CLIENTS: Final[list[DeviceClient]] = []
"""All clients created here, for tests to close."""
STARTUP_SECONDS: Final = 15.0


class RelayedDevice(SimulatedDevice):
    """A device behind a proxy that reports its address."""

    address = "198.51.100.7"

    def client(self, gateway: ServiceProcess, *, with_gateway_token: bool = True) -> DeviceClient:
        """Create a client at that address."""
        made = DeviceClient(
            gateway.ws_url,
            self.key,
            self.profile,
            token=self.stack.gateway_token if with_gateway_token else None,
            device_token=None if with_gateway_token else self.token,
            headers={"X-Forwarded-For": self.address, "X-OpenClaw-Scopes": "operator.admin"},
        )
        CLIENTS.append(made)
        return made

    async def connect_when_ready(
        self, gateway: ServiceProcess, **options: bool
    ) -> tuple[DeviceClient, Admitted]:
        """Connect, retrying while the gateway says that it is starting, as clients do."""
        deadline = asyncio.get_running_loop().time() + STARTUP_SECONDS
        while True:
            client = self.client(gateway, **options)
            outcome = await client.connect()
            if isinstance(outcome, Admitted):
                self.token = outcome.device_token
                return client, outcome
            await client.close()
            assert outcome.code == "UNAVAILABLE", outcome
            assert outcome.details["reason"] == "startup-sidecars", outcome
            assert asyncio.get_running_loop().time() < deadline, outcome
            await asyncio.sleep((outcome.retry_after_ms or 100) / 1000)


_ADDRESSES: Final = (f"198.51.{a}.{b}" for a in range(100, 200) for b in range(1, 250))


def new_device(stack: Stack, *scopes: str) -> RelayedDevice:
    """Return a device with an address that no other test uses."""
    made = RelayedDevice(stack, profile=CLI.with_scopes(*scopes) if scopes else CLI)
    made.address = next(_ADDRESSES)
    return made
