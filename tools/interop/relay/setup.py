"""Two gateways with addresses of their own before one OpenClaw, which has a model to talk to."""

from __future__ import annotations

import asyncio
import inspect
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from services.cli.upstream_config import upstream_config
from services.gateway.relay.rules.headers import (
    ForwardedClient,
    forwarded_headers,
    identity_headers,
)
from shared.device.client import DeviceClient
from shared.device.handshake import Admitted
from shared.device.profile import CLI
from shared.upstream import RELAY_SCOPES, RELAY_USER, header_names
from tools.interop.facts import Unexpected
from tools.interop.relay.programs.model_provider import model_provider
from tools.interop.relay.programs.upstream_process import UpstreamProcess
from tools.support.actors import Operator, SimulatedDevice
from tools.support.processes.stack import Stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from shared.device.profile import Profile
    from tools.interop.relay.programs.model_provider import ModelProvider
    from tools.support.processes.service import ServiceProcess

SECRET: Final = "upstream-secret-of-32-characters"
WAIT_SECONDS: Final = 20.0
POLL_SECONDS: Final = 0.05
_OWNER_ADDRESS: Final = "192.0.2.9"


@dataclass(frozen=True, slots=True)
class Entry:
    """The address of one gateway, and the token that clients need there."""

    gateway: str
    gateway_token: str


@dataclass
class Relayed(SimulatedDevice):
    """A device that connects from an address of its own, as through a proxy."""

    address: str = "198.51.100.7"
    headers: dict[str, str] = field(default_factory=dict)

    def client(self, gateway: ServiceProcess, *, with_gateway_token: bool = True) -> DeviceClient:
        """Return a connection to be made."""
        return DeviceClient(
            gateway.ws_url,
            self.key,
            self.profile,
            token=self.stack.gateway_token if with_gateway_token else None,
            device_token=None if with_gateway_token else self.token,
            headers={"X-Forwarded-For": self.address, **self.headers},
        )

    async def connect_when_ready(
        self, gateway: ServiceProcess, *, seconds: float = WAIT_SECONDS
    ) -> DeviceClient:
        """Connect, coming back for as long as the gateway says that it is starting."""
        deadline = time.monotonic() + seconds
        while True:
            client = self.client(gateway)
            outcome = await client.connect()
            if isinstance(outcome, Admitted):
                self.token = outcome.device_token
                return client
            await client.close()
            if outcome.code != "UNAVAILABLE" or time.monotonic() > deadline:
                raise Unexpected(f"refused: {outcome.code} {outcome.message} {outcome.details}")
            await asyncio.sleep((outcome.retry_after_ms or 100) / 1000)


@dataclass(frozen=True)
class Setup:
    """Everything that runs, and an operator. `ending` is closed first."""

    stack: Stack
    upstream: UpstreamProcess
    provider: ModelProvider
    operator: Operator
    data: Path
    ending: AsyncExitStack

    @property
    def gateways(self) -> list[ServiceProcess]:
        """Both gateways."""
        return self.stack.gateways

    def entry(self, number: int) -> Entry:
        """Return the address of a gateway."""
        return Entry(self.gateways[number].ws_url, self.stack.gateway_token)

    async def request_of(self, client_id: str, *, seconds: float = WAIT_SECONDS) -> dict[str, Any]:
        """Wait for a request of this client. Raises Unexpected."""

        async def found() -> dict[str, Any] | None:
            pending = await self.operator.pending()
            return next((request for request in pending if request["clientId"] == client_id), None)

        request: dict[str, Any] = await until(found, f"a request of {client_id}", seconds=seconds)
        return request

    async def clear(self) -> None:
        """Reject all requests, and remove all devices."""
        for request in await self.operator.pending():
            await self.operator.call("POST", f"requests/{request['requestId']}/reject")
        for device_id in await self.operator.devices():
            await self.operator.remove(device_id)

    async def device(self, gateway: int, profile: Profile, address: str) -> Relayed:
        """Return a new device that is approved, and was connected once."""
        entry = Relayed(self.stack, profile=profile, address=address)
        (await self.operator.approve(await entry.request_pairing(self.gateways[gateway]))).ok()
        await (await entry.connect_when_ready(self.gateways[gateway])).close()
        return entry

    async def joined(self, gateway: int, profile: Profile, address: str) -> DeviceClient:
        """Return the connection of a new device, open to the end."""
        entry = await self.device(gateway, profile, address)
        client = await entry.connect_when_ready(self.gateways[gateway])
        self.ending.push_async_callback(client.close)
        return client

    @asynccontextmanager
    async def owner(self) -> AsyncIterator[DeviceClient]:
        """Connect to the upstream itself, with the rights that gateways have there."""
        own = ForwardedClient(address=_OWNER_ADDRESS, loopback=False, secure=False, host="x")
        names = [header_names(SECRET)]
        headers = dict([*forwarded_headers(own), *identity_headers(names, RELAY_USER)])
        profile = CLI.with_scopes(*RELAY_SCOPES)
        async with DeviceClient(self.upstream.ws_url, None, profile, headers=headers) as client:
            outcome = await client.connect()
            if not isinstance(outcome, Admitted):
                raise Unexpected(f"the upstream refuses its owner: {outcome}")
            yield client

    async def known_upstream(self) -> set[str]:
        """Return the devices that are paired at the upstream."""
        async with self.owner() as owner:
            listed = await owner.call("device.pair.list", {})
        return {device["deviceId"] for device in listed.payload["paired"]}

    async def present_upstream(self) -> set[str]:
        """Return the devices that the upstream has as connected."""
        async with self.owner() as owner:
            listed = await owner.call("system-presence", {})
        return {
            item["deviceId"]
            for item in listed.payload
            if item.get("deviceId") and item.get("reason") != "disconnect"
        }


async def until(
    condition: Callable[[], Any], description: str, *, seconds: float = WAIT_SECONDS
) -> Any:
    """Wait until a condition holds, and return what it returned. Raises Unexpected."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        if time.monotonic() > deadline:
            raise Unexpected(f"not within {seconds:g} s: {description}")
        await asyncio.sleep(POLL_SECONDS)


@asynccontextmanager
async def set_up(data: Path, **gateway_env: str) -> AsyncIterator[Setup]:
    """Start everything; end it on exit. Raises Unexpected."""
    upstream = UpstreamProcess(data / "upstream")
    relaying = {"UPSTREAM_URL": upstream.ws_url, "UPSTREAM_SECRET": SECRET}
    stack = Stack(
        data,
        gateways=2,
        env={"TRUSTED_PROXIES": "127.0.0.0/8"},
        gateway_env={**relaying, **gateway_env},
    )
    try:
        async with model_provider() as provider:
            own = upstream_config(
                SECRET,
                origins=[gateway.url for gateway in stack.gateways],
                replicas=["127.0.0.1/32"],
                password="password-for-the-machine-itself",
            )
            own["gateway"]["bind"] = "loopback"
            upstream.configure({**own, **provider.settings})
            await asyncio.gather(upstream.start(), asyncio.to_thread(stack.start))
            async with Operator(stack, stack.approvals[0]) as operator, AsyncExitStack() as ending:
                yield Setup(stack, upstream, provider, operator, data, ending)
    finally:
        await asyncio.to_thread(stack.close)
        await upstream.close()
