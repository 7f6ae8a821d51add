"""Who may be served, and since when, derived from the store's records at every commit.

The right to serve a device in a role, for a session admitted at some change, lasts while the record
has that role with a valid token and no later change has closed the role's sockets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.approval.domain.records import decode_record
from services.approval.storage.keys import device_key

if TYPE_CHECKING:
    from tests.simulation.checks.history import Histories
    from tests.simulation.redis.server import Server


@dataclass(slots=True)
class Session:
    """An admitted socket: when its right was decided, in the world's time.

    `scopes` are those it was admitted with; `token_generation` is the answer's; `confined`: it authenticated
    by its device token alone.
    """

    device_id: str
    role: str
    decided_at: float
    admitted_at: float
    scopes: tuple[str, ...]
    token_generation: str
    confined: bool
    closed: bool = False
    heard_last: bool = False
    """Whether it received the result of its own call that ended it."""


@dataclass(frozen=True, slots=True)
class Right:
    """From `since` on: whether the role is valid, and when its sockets were last closed."""

    since: float
    live: bool
    closed_at: float

    def holds(self, decided_at: float) -> bool:
        """Return whether it covers a session that was decided at this time."""
        return self.live and self.closed_at <= decided_at


class Rights:
    """Each device's right to be served in a role, over time."""

    def __init__(self, histories: Histories) -> None:
        self._histories = histories
        self._rights: dict[tuple[str, str], list[Right]] = {}

    def look_at(self, server: Server, device_id: str, now: float) -> None:
        """Record what a device may do from now on."""
        value = server.data.texts.get(device_key(device_id))
        record = decode_record(value[16:]) if value else None
        live = record.pairing.effective_roles if record and record.pairing else ()
        for role in ("operator", "node"):
            closed_at = self._histories.last_close(server, device_id, role)
            rights = self._rights.setdefault((device_id, role), [])
            right = Right(now, role in live, closed_at)
            if not rights or (rights[-1].live, rights[-1].closed_at) != (right.live, closed_at):
                rights.append(right)

    def look_at_all(self, server: Server, now: float) -> None:
        """Record what every known device may do from now on."""
        for device_id in {device_id for device_id, _role in self._rights}:
            self.look_at(server, device_id, now)

    def may_serve(self, device_id: str, role: str) -> bool:
        """Return whether a device may be admitted now."""
        rights = self._rights.get((device_id, role), [])
        return bool(rights) and rights[-1].live

    def holds_now(self, session: Session) -> bool:
        """Return whether a session has its right at this moment."""
        rights = self._rights.get((session.device_id, session.role), [])
        return bool(rights) and rights[-1].holds(session.decided_at)

    def held_since(self, session: Session, since: float) -> bool:
        """Return whether a session had its right at some moment since then."""
        rights = self._rights.get((session.device_id, session.role), [])
        for place in range(len(rights) - 1, -1, -1):
            if rights[place].holds(session.decided_at):
                return True
            if rights[place].since < since:
                return False
        return False
