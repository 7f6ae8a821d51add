"""New devices that arrive continuously, and two operators who approve each of them."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from shared.device.profile import CLI, NODE_HOST
from tools.drills.judging.observed import Approval
from tools.drills.load.device import Device

if TYPE_CHECKING:
    from shared.device.profile import Profile
    from tools.drills.load.context import LoadContext

LINES: Final = 2
PAUSE_SECONDS: Final = 0.3
PROFILES: Final = (CLI, NODE_HOST)
VISIT_SECONDS: Final = 30.0


class NewDevices:
    """Series of new devices, one after the other in each, until `finish`."""

    def __init__(self, context_: LoadContext) -> None:
        self._context = context_
        self._finish = asyncio.Event()
        self._lines = [asyncio.create_task(self._run()) for _ in range(LINES)]

    async def finish(self) -> None:
        """Let the last ones be admitted, then end."""
        self._finish.set()
        await asyncio.gather(*self._lines)

    async def stop(self) -> None:
        """Stop immediately."""
        for line in self._lines:
            line.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)

    async def _run(self) -> None:
        number = 0
        while not self._finish.is_set():
            await self._one(PROFILES[number % len(PROFILES)])
            number += 1
            await asyncio.sleep(PAUSE_SECONDS)

    async def _one(self, profile: Profile) -> None:
        device = Device(self._context, profile)
        async with asyncio.timeout(VISIT_SECONDS):
            while not device.request_id:
                await self._visit(device)
        if await approve(self._context, device):
            async with asyncio.timeout(VISIT_SECONDS):
                # A fault may make the service forget the device, and then says so.
                while self._context.grants.stands(device.id) and not await self._visit(device):
                    pass

    async def _visit(self, device: Device) -> bool:
        entered = await device.attempt(self._context.url)
        if entered is None:
            await asyncio.sleep(device.pause_seconds())
            return False
        await entered[0].close()
        return True


async def approve(context_: LoadContext, device: Device) -> bool:
    """Have two operators approve a device's request; return whether one of them succeeded."""
    now = asyncio.get_running_loop().time
    request_id = device.request_id

    async def operator() -> bool:
        status = (await context_.api.approve(request_id)).status
        context_.seen.approvals.append(Approval(device.id, request_id, now(), status))
        return status == HTTPStatus.OK

    context_.grants.grant(device.id, now())
    results = await asyncio.gather(operator(), operator())
    if not any(results):
        context_.grants.void(device.id, now())
    return any(results)
