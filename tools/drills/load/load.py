"""The load of a drill: devices with sessions, devices that reconnect, and unauthorised ones."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from shared.device.profile import CLI, CLI_3, NODE_HOST
from tools.drills.load.device import Device
from tools.drills.load.holder import Holder
from tools.drills.load.new_devices import approve
from tools.drills.load.reconnecting import churn, connect_unapproved, reconnect_with_old_token
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tools.drills.judging.observed import Session
    from tools.drills.load.context import LoadContext

HOLDERS: Final = {CLI: 14, CLI_3: 4, NODE_HOST: 12}
RELAYED_HOLDERS: Final = {CLI: 18, NODE_HOST: 12}
"""With an upstream, which needs protocol 4."""
CHURNERS: Final = {CLI: 4, NODE_HOST: 2}
UNAPPROVED: Final = {CLI: 2, NODE_HOST: 2}
OUTCASTS: Final = 4
"""How many of the most recently revoked devices keep trying."""
AT_EACH: Final = 4
"""Minimum number of sessions at each gateway before a fault."""
AT_ONCE: Final = 8
SPREAD_SECONDS: Final = 30.0


class Load:
    """All devices of the load, as tasks that run until `leave`."""

    def __init__(self, context_: LoadContext) -> None:
        self._context = context_
        self._tasks: list[asyncio.Task[None]] = []
        self._outcasts: list[asyncio.Task[None]] = []
        relayed = context_.stack.upstream is not None
        self._holders = [
            Holder(context_, Device(context_, profile))
            for profile, number in (RELAYED_HOLDERS if relayed else HOLDERS).items()
            for _ in range(number)
        ]
        self._churners = [
            Device(context_, profile, token_only=True)
            for profile, number in CHURNERS.items()
            for _ in range(number)
        ]

    @property
    def churning(self) -> frozenset[str]:
        """The device ids of churning devices."""
        return frozenset(device.id for device in self._churners)

    async def enter(self) -> None:
        """Pair the authorised devices and start all of them."""
        context_ = self._context
        room = asyncio.Semaphore(AT_ONCE)

        async def pair(device: Device) -> None:
            async with room:
                await self.pair(device)

        await asyncio.gather(*(pair(device) for device in self._members()))
        for device in self._churners:
            self._start(churn(context_, device))
        for holder in self._holders:
            self._start(holder.run())
        for profile, number in UNAPPROVED.items():
            for _ in range(number):
                self._start(connect_unapproved(context_, Device(context_, profile)))

    async def pair(self, device: Device) -> None:
        """Pair a device and let it connect once."""
        url = self._context.url
        while not device.request_id:
            await self._visit(device, url)
        assert await approve(self._context, device), f"{device.id} is not approved"
        while not await self._visit(device, url):
            pass

    async def approve_anew(self) -> None:
        """Approve pending devices again until none is left, after everything was forgotten."""
        missing = {device.id: device for device in self._members()}
        while missing:
            for device_id, request_id in (await self._context.api.pending()).items():
                device = missing.get(device_id)
                if device is not None:
                    device.request_id = request_id
                    if await approve(self._context, device):
                        del missing[device_id]

    async def all_in(self) -> None:
        """Wait until all devices that hold sessions are connected."""
        await until(
            self._all_in, "all devices that hold sessions are connected", seconds=SPREAD_SECONDS
        )

    async def settled(self) -> None:
        """Wait until all sessions are held, with some at each gateway."""
        await self.all_in()
        gateways = [gateway.name for gateway in self._context.stack.stack.gateways]
        async with asyncio.timeout(SPREAD_SECONDS):
            while True:
                at = Counter(session.replica for session in self._sessions())
                minimum, maximum = min(gateways, key=lambda name: at[name]), at.most_common(1)[0][0]
                if at[minimum] >= AT_EACH:
                    return
                moving = next(
                    holder
                    for holder in self._holders
                    if holder.session and holder.session.replica == maximum
                )
                await moving.move()
                await self.all_in()

    def note_sessions(self) -> None:
        """Record which sessions are held now."""
        self._context.seen.sessions = self._sessions()

    async def all_back(self, since: float, *, within: float) -> None:
        """Wait until each churning device was admitted since then, at most this many seconds."""

        def back() -> bool:
            attempts = self._context.seen.attempts
            entered = {
                attempt.device for attempt in attempts if not attempt.why and attempt.began >= since
            }
            return self.churning <= entered

        await until(back, "all churning devices were admitted again", seconds=within)

    def remove_access(self, device: Device) -> None:
        """Let a revoked device keep trying with its old token; the oldest such device stops."""
        trying = asyncio.create_task(reconnect_with_old_token(self._context, device))
        self._outcasts.append(trying)
        if len(self._outcasts) > OUTCASTS:
            self._outcasts.pop(0).cancel()

    def require_alive(self) -> None:
        """Raise the error of a task that ended: none of them should."""
        for task in (*self._tasks, *self._outcasts):
            if task.done():
                task.result()

    async def leave(self) -> None:
        """Stop all of them."""
        tasks = [*self._tasks, *self._outcasts]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _members(self) -> list[Device]:
        return [*(holder.device for holder in self._holders), *self._churners]

    def _sessions(self) -> list[Session]:
        """Return the sessions held now, with the names of their replicas."""
        sessions = [holder.session for holder in self._holders if holder.session]
        for session in sessions:
            session.replica = self._context.stack.name_of(session.replica)
        return sessions

    def _all_in(self) -> bool:
        return all(holder.session is not None for holder in self._holders)

    def _start(self, role: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(role))

    async def _visit(self, device: Device, url: str) -> bool:
        entered = await device.attempt(url)
        if entered is None:
            await asyncio.sleep(device.pause_seconds())
            return False
        await entered[0].close()
        return True
