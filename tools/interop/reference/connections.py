"""Building blocks of the cases: one device that connects with several clients."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from tools.interop.facts import Facts, Unexpected, either, once, replica
from tools.interop.reference.callback_facts import welcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from tools.interop.latchkey import Latchkey
    from tools.interop.reference.client import Client, Device
    from tools.interop.reference.roles import Role

GATEWAYS: Final = 2
# A connection reaches a random gateway; so many misses in a row are not random.
MAX_ATTEMPTS: Final = 100
AT_ONCE_SECONDS: Final = 1.0

Live = list[tuple["Client", "Device"]]


class Visits:
    """A device in a role, and its connections to one Latchkey."""

    def __init__(self, latchkey: Latchkey, device: Device, role: Role) -> None:
        self.close_seconds: Final[list[float]] = []
        self._latchkey = latchkey
        self._device = device
        self._role = role

    async def connect(
        self,
        options: Mapping[str, Any],
        *,
        device: Device | None = None,
        tampered: bool = False,
    ) -> Client:
        """Start a client with these options, for this device unless another one is given."""
        return await (device or self._device).connect(
            url=self._latchkey.gateway, tampered=tampered, **options
        )

    async def stored(self) -> str:
        """Return the device token the client has stored. Raises Unexpected if there is none."""
        token = await self._device.stored(self._role.name)
        if token is None:
            raise Unexpected("no device token is stored")
        return token

    async def admitted_at_both(self, options: Mapping[str, Any]) -> tuple[Facts, set[str]]:
        """Connect until both gateways have admitted it; return all facts, and the gateways."""
        facts: list[str] = []

        async def come_in() -> str:
            client = await self.connect(options)
            hello = await client.hello()
            health = await client.request("health")
            await client.stop()
            facts.extend(welcome(self._role, hello))
            facts.append(either(health.get("ok") is True, "health", f"health is {health}"))
            return replica(hello["server"]["connId"])

        replicas = await until_both(come_in)
        return once(facts), replicas

    async def live_at_both(self, options: Mapping[str, Any]) -> Live:
        """Stay connected at both gateways, like two programs with separate token stores."""
        live: dict[str, tuple[Client, Device]] = {}

        async def come_in() -> str:
            device = await self._device.copy() if live else self._device
            client = await self.connect(options, device=device)
            at = replica((await client.hello())["server"]["connId"])
            if at in live:
                await client.stop()
            else:
                live[at] = client, device
            return at

        await until_both(come_in)
        return list(live.values())

    async def closed_by(self, method: str, path: str, live: Live) -> tuple[Facts, list[int]]:
        """Call the HTTP API and check how that closes the live connections.

        Returns the facts, and the number of each client's first callback after its close.
        """
        begin = time.monotonic()
        calling = asyncio.create_task(self._latchkey.call(method, path))
        closes = await asyncio.gather(*(client.next("close") for client, _ in live))
        took = time.monotonic() - begin
        status, _ = await calling
        self.close_seconds.append(took)
        facts = (
            f"HTTP {status}",
            *once(f"closed {close['code']} {close['reason']}" for close in closes),
            either(len(closes) == GATEWAYS, "at both gateways", "at one gateway"),
            either(took < AT_ONCE_SECONDS, "at once", f"after {took:.1f} s"),
        )
        pairs = zip(live, closes, strict=True)
        return facts, [client.heard.index(close) + 1 for (client, _), close in pairs]


async def until_both(attempt: Callable[[], Awaitable[str]]) -> set[str]:
    """Repeat an attempt that returns a replica until both were reached; return them."""
    replicas: set[str] = set()
    for _ in range(MAX_ATTEMPTS):
        replicas.add(await attempt())
        if len(replicas) == GATEWAYS:
            break
    return replicas
