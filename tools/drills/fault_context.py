"""What a fault works with: the stack, the moment of the revocation, and the timeline."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tools.drills.judging.observed import Frozen, Mark

if TYPE_CHECKING:
    from tools.drills.load.context import LoadContext
    from tools.drills.load.load import Load
    from tools.drills.load.revoked_device import RevokedDevice


class FaultContext:
    """One case of a fault while it runs."""

    def __init__(self, context_: LoadContext, load: Load, revoked: RevokedDevice) -> None:
        self.stack: Final = context_.stack
        self.context_: Final = context_
        self.load: Final = load
        self._revoked = revoked
        self._revoking: asyncio.Task[None] | None = None

    @property
    def victim_id(self) -> str:
        """The device to be revoked."""
        return self._revoked.revoke.device

    @staticmethod
    def now() -> float:
        """Return the clock of all observations."""
        return asyncio.get_running_loop().time()

    def note(self, text: str) -> None:
        """Add an action to the timeline."""
        self.context_.seen.marks.append(Mark(self.now(), text))

    def struck(self) -> None:
        """Record that the fault takes effect now."""
        self.context_.seen.struck = self.now()

    async def last(self, seconds: float) -> None:
        """Let the fault last this long."""
        await asyncio.sleep(seconds)

    def revoke(self) -> None:
        """Revoke the revoked now; the response may take until the fault is over."""
        self._revoking = asyncio.create_task(self._revoke())

    def forgotten(self, asked: float) -> None:
        """Record that all authorisations, including the revoked's, are lost since this moment."""
        answered = self.now()
        self.context_.grants.void_all(asked, answered)
        self._revoked.revoke.asked, self._revoked.revoke.answered = asked, answered
        self._revoking = asyncio.create_task(asyncio.sleep(0))

    async def revoked(self) -> None:
        """Wait for the response to the revocation. Raises TimeoutError."""
        assert self._revoking is not None, "this fault revokes nobody"
        await self._revoking

    async def freeze(self, name: str, seconds: float) -> None:
        """Pause a replica (SIGSTOP), then resume it."""
        service = self.stack.service(name)
        since = self.now()
        self.note(f"{name} is paused")
        service.pause()
        try:
            await self.last(seconds)
        finally:
            service.resume()
            self.note(f"{name} continues")
            self.context_.seen.frozen.append(Frozen(name, since, self.now()))

    async def _revoke(self) -> None:
        revoke = self._revoked.revoke
        self.note(f"{revoke.device[:8]} is to be removed")
        revoke.asked = self.now()
        reply = await self.context_.api.remove(revoke.device)
        revoke.answered = self.now()
        self.context_.grants.void(revoke.device, revoke.answered)
        self.note(f"{revoke.device[:8]} is removed: {reply.status}")
        self.load.remove_access(self._revoked.device)
