"""What a fault works with: the stack, the moment of the revocation, and the timeline."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tools.drills.observed import Frozen, Mark

if TYPE_CHECKING:
    from tools.drills.crowd import Crowd
    from tools.drills.street import Street
    from tools.drills.victim import Victim


class Scene:
    """One case of a fault while it runs."""

    def __init__(self, street: Street, crowd: Crowd, victim: Victim) -> None:
        self.house: Final = street.house
        self.street: Final = street
        self.crowd: Final = crowd
        self._victim = victim
        self._revoking: asyncio.Task[None] | None = None

    @property
    def victim_id(self) -> str:
        """The device to be revoked."""
        return self._victim.revoke.device

    @staticmethod
    def now() -> float:
        """Return the clock of all observations."""
        return asyncio.get_running_loop().time()

    def note(self, text: str) -> None:
        """Add an action to the timeline."""
        self.street.seen.marks.append(Mark(self.now(), text))

    def struck(self) -> None:
        """Record that the fault takes effect now."""
        self.street.seen.struck = self.now()

    async def last(self, seconds: float) -> None:
        """Let the fault last this long."""
        await asyncio.sleep(seconds)

    def revoke(self) -> None:
        """Revoke the victim now; the response may take until the fault is over."""
        self._revoking = asyncio.create_task(self._revoke())

    def forgotten(self, asked: float) -> None:
        """Record that all authorisations, including the victim's, are lost since this moment."""
        answered = self.now()
        self.street.grants.void_all(asked, answered)
        self._victim.revoke.asked, self._victim.revoke.answered = asked, answered
        self._revoking = asyncio.create_task(asyncio.sleep(0))

    async def revoked(self) -> None:
        """Wait for the response to the revocation. Raises TimeoutError."""
        assert self._revoking is not None, "this fault revokes nobody"
        await self._revoking

    async def freeze(self, name: str, seconds: float) -> None:
        """Pause a replica (SIGSTOP), then resume it."""
        service = self.house.service(name)
        since = self.now()
        self.note(f"{name} is paused")
        service.pause()
        try:
            await self.last(seconds)
        finally:
            service.resume()
            self.note(f"{name} continues")
            self.street.seen.frozen.append(Frozen(name, since, self.now()))

    async def _revoke(self) -> None:
        revoke = self._victim.revoke
        self.note(f"{revoke.device[:8]} is to be removed")
        revoke.asked = self.now()
        reply = await self.street.desk.remove(revoke.device)
        revoke.answered = self.now()
        self.street.grants.void(revoke.device, revoke.answered)
        self.note(f"{revoke.device[:8]} is removed: {reply.status}")
        self.crowd.cast_out(self._victim.device)
