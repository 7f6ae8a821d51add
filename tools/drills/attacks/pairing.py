"""Floods of new devices that ask for approval: from one address, and from one IPv6 network."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Final

from tools.drills.attacks.attack import Attack
from tools.drills.attacks.strangers import HOST, PAUSE_SECONDS
from tools.load.client.devices import LoadDevice
from tools.load.client.dialer import Dialer
from tools.load.client.session import Session
from tools.load.client.target import Target as Address
from tools.load.client.wire import upgrade_request
from tools.load.server.pairing import new_identities

if TYPE_CHECKING:
    from collections.abc import Callable

    from tools.drills.attacks.attack import Target

SOCKETS: Final = 28
ADDRESS: Final = "127.66.2.1"
PROXY: Final = "127.0.0.1"
"""A trusted proxy, which names the client."""
IPV6_NETWORKS: Final = 20
SOCKETS_PER_NETWORK: Final = 2
ATTEMPT_SECONDS: Final = 20.0


class NewDevice:
    """Owner of one attempt of a device that nobody knows."""

    def __init__(self, dialer: Dialer, upgrade: bytes) -> None:
        self.upgrade = upgrade
        self._dialer = dialer
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def ask(self, gateway_token: str) -> bool:
        """Ask for approval; return whether the gateway decided."""
        (identity,) = new_identities(1)
        device = LoadDevice(identity, gateway_token, 0)
        session = Session(self, device, time.monotonic())
        self._dialer.dial(session)
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                await self._end
        except TimeoutError:
            session.give_up("timed out")
        return session.decided > 0

    def admitted(self, session: Session) -> None:
        session.leave()

    def ended(self, session: Session) -> None:
        del session
        if not self._end.done():
            self._end.set_result(None)


async def from_one_address(target: Target) -> None:
    """Keep 28 requests of new devices in progress."""
    upgrade = _upgrade(target)
    await _keep_asking(target, target.count(SOCKETS), ADDRESS, lambda: upgrade)


async def from_one_network(target: Target) -> None:
    """Ask from 20 networks of 64 bits within one of 48, again and again."""
    numbers = itertools.count()

    def upgrade() -> bytes:
        client = f"2001:db8:66:{next(numbers) % IPV6_NETWORKS:x}::1"
        return _upgrade(target, f"X-Forwarded-For: {client}")

    await _keep_asking(target, IPV6_NETWORKS * SOCKETS_PER_NETWORK, PROXY, upgrade)


async def _keep_asking(
    target: Target, sockets: int, address: str, upgrade: Callable[[], bytes]
) -> None:
    dialer = Dialer(Address(HOST, target.gateway_port, "/", tls=False), [address])
    await dialer.prepare()

    async def ask() -> None:
        while True:
            if not await NewDevice(dialer, upgrade()).ask(target.gateway_token):
                await asyncio.sleep(PAUSE_SECONDS)

    async with asyncio.TaskGroup() as group:
        for _ in range(sockets):
            group.create_task(ask())


def _upgrade(target: Target, *headers: str) -> bytes:
    request = upgrade_request(f"{HOST}:{target.gateway_port}", "/")
    more = "".join(f"{header}\r\n" for header in headers).encode()
    return request.removesuffix(b"\r\n") + more + b"\r\n"


ATTACKS: Final = (
    Attack(name="pairing requests from one address", do=from_one_address),
    Attack(name="pairing requests from one IPv6 /48", do=from_one_network),
)
