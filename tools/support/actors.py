"""The actors of a test: devices, and operators who approve them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import aiohttp

from shared.device.client import DeviceClient
from shared.device.handshake import Admitted, Refused
from shared.device.identity import DeviceKey
from shared.device.profile import CLI, CONTROL_UI
from tools.support.waiting import POLL_SECONDS, WAIT_SECONDS, until

if TYPE_CHECKING:
    from shared.device.profile import Profile
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack

OUTCOME_SECONDS = 15.0
RECOVERY_SECONDS = 10.0
"""Maximum time until everything works again after an outage."""


@dataclass
class SimulatedDevice:
    """One device: its key, its description, and its tokens."""

    stack: Stack
    profile: Profile = CLI
    key: DeviceKey = field(default_factory=DeviceKey.generate)
    token: str = ""
    """The device token, once it was admitted."""

    @property
    def device_id(self) -> str:
        """Its id."""
        return self.key.device_id

    def client(self, gateway: ServiceProcess, *, with_gateway_token: bool = True) -> DeviceClient:
        """Create a client, with the gateway token or with the device token alone.

        Dashboards send the origin of the gateway's own page.
        """
        return DeviceClient(
            gateway.ws_url,
            self.key,
            self.profile,
            token=self.stack.gateway_token if with_gateway_token else None,
            device_token=None if with_gateway_token else self.token,
            origin=gateway.url if self.profile.client_id == CONTROL_UI.client_id else None,
        )

    async def expect_refusal(self, gateway: ServiceProcess, **options: bool) -> Refused:
        """Connect and return the expected refusal."""
        async with self.client(gateway, **options) as client:
            outcome = await client.connect()
        assert isinstance(outcome, Refused), outcome
        return outcome

    async def request_pairing(self, gateway: ServiceProcess) -> str:
        """Connect and return the id of the request that awaits approval."""
        outcome = await self.expect_refusal(gateway)
        assert outcome.detail_code == "PAIRING_REQUIRED", outcome
        assert outcome.request_id
        return outcome.request_id

    async def connect_once(self, gateway: ServiceProcess, **options: bool) -> Admitted:
        """Connect, be admitted, and disconnect."""
        client, admitted = await self.stay_connected(gateway, **options)
        await client.close()
        return admitted

    async def reconnect(self, gateway: ServiceProcess, **options: bool) -> Admitted:
        """Reconnect after an outage, retrying while the service is unavailable, then disconnect."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + RECOVERY_SECONDS
        while True:
            async with self.client(gateway, **options) as client:
                outcome = await client.connect()
            if isinstance(outcome, Admitted):
                self.token = outcome.device_token
                return outcome
            assert outcome.code == "UNAVAILABLE", outcome
            assert loop.time() < deadline, f"still away after {RECOVERY_SECONDS} s: {outcome}"
            await asyncio.sleep(POLL_SECONDS)

    async def stay_connected(
        self, gateway: ServiceProcess, **options: bool
    ) -> tuple[DeviceClient, Admitted]:
        """Connect and stay connected; the caller closes the client."""
        client = self.client(gateway, **options)
        try:
            outcome = await client.connect()
            assert isinstance(outcome, Admitted), outcome
        except BaseException:
            await client.close()
            raise
        self.token = outcome.device_token
        return client, outcome

    def with_scopes(self, *scopes: str) -> SimulatedDevice:
        """Return the same device with other requested scopes."""
        return replace(self, profile=self.profile.with_scopes(*scopes))


@dataclass(frozen=True)
class Reply:
    """A response of the HTTP API."""

    status: int
    body: Any

    def ok(self) -> Any:
        """Return the body of a successful call."""
        assert self.status == 200, self
        return self.body


class Operator:
    """A person with the admin token, at one approval replica."""

    def __init__(self, stack: Stack, approval: ServiceProcess) -> None:
        self._url = approval.url
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {stack.admin_token}"},
            timeout=aiohttp.ClientTimeout(total=OUTCOME_SECONDS),
        )

    async def call(self, method: str, path: str, body: object = None) -> Reply:
        """Call the API."""
        async with self._session.request(method, f"{self._url}/v1/{path}", json=body) as answer:
            return Reply(answer.status, await answer.json(content_type=None))

    async def approve(self, request_id: str) -> Reply:
        """Approve a device's request."""
        return await self.call("POST", f"requests/{request_id}/approve")

    async def remove(self, device_id: str) -> Reply:
        """Remove a device."""
        return await self.call("DELETE", f"devices/{device_id}")

    async def rotate(self, device_id: str, role: str = "operator") -> Reply:
        """Issue a new token to a device."""
        return await self.call("POST", f"devices/{device_id}/tokens/{role}/rotate", {})

    async def revoke(self, device_id: str, role: str = "operator") -> Reply:
        """Revoke a device's token."""
        return await self.call("POST", f"devices/{device_id}/tokens/{role}/revoke")

    async def pending(self) -> list[Any]:
        """Return the pending requests."""
        found: list[Any] = (await self.call("GET", "requests")).ok()["pending"]
        return found

    async def devices(self) -> list[str]:
        """Return the ids of all paired devices."""
        return [
            device["deviceId"] for device in (await self.call("GET", "devices")).ok()["devices"]
        ]

    async def audit(self, device_id: str) -> list[str]:
        """Return all actions on a device, oldest first."""
        found: list[str] = []
        after = 0
        while True:
            page = (await self.call("GET", f"audit?after={after}&limit=1000")).ok()
            if not page["entries"]:
                return found
            found += [
                entry["action"] for entry in page["entries"] if entry["deviceId"] == device_id
            ]
            after = page["next"]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()


async def pair(
    stack: Stack, profile: Profile = CLI, key: DeviceKey | None = None
) -> SimulatedDevice:
    """Return a device that is approved and has connected once."""
    device = SimulatedDevice(stack, profile, key or DeviceKey.generate())
    request_id = await device.request_pairing(stack.gateways[0])
    async with Operator(stack, stack.approvals[0]) as operator:
        (await operator.approve(request_id)).ok()
    await device.connect_once(stack.gateways[0])
    return device


def log_lines(service: ServiceProcess, event: str, **having: object) -> list[dict[str, Any]]:
    """Return the log lines of this event with these fields, as far as they are written."""
    return [
        line for line in service.logs() if line["event"] == event and having.items() <= line.items()
    ]


async def wait_for_log(
    service: ServiceProcess, event: str, **having: object
) -> list[dict[str, Any]]:
    """Wait for log lines with this event and these fields, and return them.

    A service writes its log at the end of a loop iteration, when a client may already have its
    response.
    """
    await until(
        lambda: log_lines(service, event, **having), f"{service.name} writes {event} {having}"
    )
    return log_lines(service, event, **having)


async def wait_for_approvals(gateway: ServiceProcess, reason: str) -> None:
    """Wait until a gateway reports this about the approvals it sees, such as `2 live`."""
    async with aiohttp.ClientSession() as http, asyncio.timeout(WAIT_SECONDS):
        while True:
            async with http.get(f"{gateway.url}/readyz") as answer:
                body = await answer.json()
            if body["dependencies"]["approval"]["reason"] == reason:
                return
            await asyncio.sleep(POLL_SECONDS)
