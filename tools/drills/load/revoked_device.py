"""The device to be revoked: connected to every gateway, with continuous requests."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from shared.device.errors import DeviceClientError, NoAnswerError
from shared.device.profile import CLI
from tools.drills.judging.observed import Revoke, Session
from tools.drills.load.device import Device
from tools.drills.stack.settings import CASE_SECONDS

if TYPE_CHECKING:
    from shared.device.client import DeviceClient
    from tools.drills.load.context import LoadContext

ASK_SECONDS: Final = 0.1


class RevokedDevice:
    """One such device; `revoke` holds the observations."""

    def __init__(self, context_: LoadContext) -> None:
        self.device: Final = Device(context_, CLI)
        self.revoke: Final = Revoke(self.device.id, [])
        self._context = context_
        self._watching: list[asyncio.Task[None]] = []

    async def enter(self) -> None:
        """Connect to each gateway directly; the device is already paired."""
        for gateway in self._context.stack.stack.gateways:
            entered = None
            while entered is None:
                entered = await self.device.attempt(gateway.ws_url)
                if entered is None:
                    await asyncio.sleep(self.device.pause_seconds())
            client, replica = entered
            name = self._context.stack.name_of(replica)
            session = Session(self.device.id, name, asyncio.get_running_loop().time())
            self.revoke.sessions.append(session)
            self._watching.append(asyncio.create_task(_watch(client, session)))

    async def all_closed(self, *, within: float) -> None:
        """Wait until all its connections are closed, at most this many seconds."""
        await asyncio.wait(self._watching, timeout=within)

    async def leave(self) -> None:
        """Close the remaining connections."""
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)


async def _watch(client: DeviceClient, session: Session) -> None:
    """Record the last response, and the time and code of the close."""
    now = asyncio.get_running_loop().time
    async with client:
        tasks = [asyncio.create_task(ask(client, session)) for ask in (_ask, _hear_late_answers)]
        try:
            session.code = (await client.closed()).code
            session.closed = now()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _ask(client: DeviceClient, session: Session) -> None:
    now = asyncio.get_running_loop().time
    with contextlib.suppress(DeviceClientError):
        while True:
            with contextlib.suppress(NoAnswerError):
                if (await client.call("health")).ok:
                    session.served = now()
            await asyncio.sleep(ASK_SECONDS)


async def _hear_late_answers(client: DeviceClient, session: Session) -> None:
    """Record responses that arrive after their request was given up."""
    with contextlib.suppress(DeviceClientError):
        while True:
            if (await client.next_stray(within=CASE_SECONDS)).ok:
                session.served = asyncio.get_running_loop().time()
