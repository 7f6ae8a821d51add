"""Callers of methods over a socket, one for each class of authorization."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import pytest

from shared.device.handshake import Credentials
from shared.device.profile import CLI, CLI_3
from tests.support.websocket.raw_socket import CLOSE, TEXT, RawSocket
from tools.support.actors import Operator, pair
from tools.support.waiting import POLL_SECONDS, WAIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.device.client import DeviceClient
    from shared.device.handshake import Close
    from shared.device.profile import Profile
    from tools.support.actors import SimulatedDevice
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack

READ: Final = "operator.read"
WRITE: Final = "operator.write"
ADMIN: Final = "operator.admin"
PAIRING: Final = "operator.pairing"
NOBODY: Final = "0" * 64
"""The id of a device that does not exist."""


class CallerClass(NamedTuple):
    """How a caller was admitted, and with which scopes."""

    with_gateway_token: bool
    scopes: tuple[str, ...]


DEVICE_TOKEN: Final = "device-token"
SHARED_SECRET: Final = "shared-secret"
ADMINISTRATOR: Final = "admin"
CLASSES: Final = {
    DEVICE_TOKEN: CallerClass(with_gateway_token=False, scopes=(READ, PAIRING)),
    SHARED_SECRET: CallerClass(with_gateway_token=True, scopes=(READ, PAIRING)),
    ADMINISTRATOR: CallerClass(with_gateway_token=True, scopes=(ADMIN,)),
    "device-token admin": CallerClass(with_gateway_token=False, scopes=(ADMIN,)),
}

every_class: Final = pytest.mark.parametrize("kind", CLASSES)
both_protocols: Final = pytest.mark.parametrize("profile", [CLI, CLI_3], ids=["4", "3"])


@dataclass(frozen=True)
class Caller:
    """An admitted device."""

    device: SimulatedDevice
    client: DeviceClient

    @property
    def device_id(self) -> str:
        """Its device's id."""
        return self.device.device_id

    async def call(self, method: str, **params: object) -> Any:
        """Call, and return the payload."""
        response = await self.client.call(method, params)
        assert response.ok, response
        return response.payload

    async def fails(self, method: str, **params: object) -> Any:
        """Make a call that must fail, and return the error."""
        response = await self.client.call(method, params)
        assert not response.ok, response
        return response.error


class Callers:
    """Admits callers, and closes them all at the end."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._sockets = AsyncExitStack()

    async def enter(
        self, kind: str, gateway: ServiceProcess, profile: Profile = CLI, *scopes: str
    ) -> Caller:
        """Pair and admit a device of this class, with other scopes if given."""
        entry = CLASSES[kind]
        device = await pair(self._stack, profile.with_scopes(*(scopes or entry.scopes)))
        return await self.stay(device, gateway, with_gateway_token=entry.with_gateway_token)

    async def stay(
        self, device: SimulatedDevice, gateway: ServiceProcess, **options: bool
    ) -> Caller:
        """Admit a device that is already paired."""
        client, _admitted = await device.stay_connected(gateway, **options)
        self._sockets.push_async_callback(client.close)
        return Caller(device, client)

    async def raw(
        self, device: SimulatedDevice, gateway: ServiceProcess, *, with_gateway_token: bool = True
    ) -> RawSocket:
        """Admit a paired device on a socket that shows every frame in order."""
        raw = await self._sockets.enter_async_context(await RawSocket.open(gateway.port))
        answer = await raw.connect(
            device.key,
            device.profile,
            Credentials(token=self._stack.gateway_token)
            if with_gateway_token
            else Credentials(device_token=device.token),
        )
        assert answer["ok"], answer
        return raw

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._sockets.aclose()


async def approve(stack: Stack, request_id: str) -> None:
    """Approve a request as a person with the admin token."""
    async with Operator(stack, stack.approvals[-1]) as operator:
        (await operator.approve(request_id)).ok()


async def add_role(device: SimulatedDevice, profile: Profile) -> None:
    """Give a paired device the role of another profile as well."""
    stack = device.stack
    also = replace(device, profile=profile)
    await approve(stack, await also.request_pairing(stack.gateways[0]))


async def said_until_response(raw: RawSocket) -> tuple[list[Any], Any]:
    """Return the events before the response, and the response; ticks are omitted."""
    events = []
    while (frame := await raw.receive_text())["type"] == "event":
        if frame["event"] not in {"tick", "presence"}:
            events.append(frame)
    return events, frame


async def said_until_close(raw: RawSocket) -> tuple[list[Any], Close]:
    """Return everything received before the close, and the close; ticks are omitted."""
    messages = []
    while (frame := await raw.receive()).opcode != CLOSE:
        if frame.opcode == TEXT and frame.json.get("event") not in {"tick", "presence"}:
            messages.append(frame.json)
    return messages, frame.close


def recent(milliseconds: object) -> bool:
    """Return whether this time lies within the current test."""
    return isinstance(milliseconds, int) and abs(time.time() * 1000 - milliseconds) < 60_000


def found(listed: list[Any], device_id: str) -> Any:
    """Return the one entry of a list that is about a device."""
    (item,) = [entry for entry in listed if entry["deviceId"] == device_id]
    return item


async def listed_so(
    caller: Caller, device_id: str, holds: Callable[[dict[str, Any]], object], description: str
) -> dict[str, Any]:
    """Return a paired device once the list shows it in this state."""
    until = time.monotonic() + WAIT_SECONDS
    while True:
        entry: dict[str, Any] = found((await caller.call("device.pair.list"))["paired"], device_id)
        if holds(entry):
            return entry
        assert time.monotonic() < until, f"not within {WAIT_SECONDS} s: {description}; last {entry}"
        await asyncio.sleep(POLL_SECONDS)


def invalid(message: str) -> dict[str, object]:
    """Return an error without details."""
    return {"code": "INVALID_REQUEST", "message": message}


def forbidden(scope: str) -> dict[str, object]:
    """Return protocol 4's error for a missing scope."""
    return {
        "code": "FORBIDDEN",
        "message": f"missing scope: {scope}",
        "details": {
            "code": "MISSING_SCOPE",
            "missingScope": scope,
            "requiredScopes": [scope],
        },
    }
