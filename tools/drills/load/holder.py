"""A device that holds a session as long as possible and reconnects when it is closed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tools.drills.judging.observed import Session
from tools.support.waiting import until

if TYPE_CHECKING:
    from shared.device.client import DeviceClient
    from tools.drills.load.context import LoadContext
    from tools.drills.load.device import Device


class Holder:
    """One such device; `session` is its current one."""

    def __init__(self, context_: LoadContext, device: Device) -> None:
        self.device = device
        self.session: Session | None = None
        self._context = context_
        self._client: DeviceClient | None = None

    async def run(self) -> None:
        """Hold a session until cancelled."""
        while True:
            entered = await self.device.attempt(self._context.url)
            if entered is not None:
                client, replica = entered
                async with client:
                    await self._hold(client, replica)
            await asyncio.sleep(self.device.pause_seconds())

    async def move(self) -> None:
        """Close the session; the device reconnects, perhaps to another replica."""
        left = self.session
        if self._client is not None:
            await self._client.close()
        await until(lambda: self.session is not left, "the session has ended")

    async def _hold(self, client: DeviceClient, replica: str) -> None:
        now = asyncio.get_running_loop().time
        held = self.session = Session(self.device.id, replica, now())
        self._client = client
        try:
            held.code = (await client.closed()).code
        finally:
            held.closed = now()
            self.session = self._client = None
