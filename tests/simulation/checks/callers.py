"""I6: a caller that changes something has the right to it, by its own record, at that moment.

The check uses the caller's record in the history of the commit, as of just before it, and the
oracle's own observation of the caller's admission, never what a gateway reports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.approval.domain.records import decode_record
from services.approval.storage.keys import device_key
from shared.protocol.scopes import ADMIN, PAIRING, covers, first_uncovered
from shared.rpc.requester import DEADLINE_SECONDS

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from services.approval.domain.records import Pairing, Record
    from services.gateway.replication.replica import Replica
    from shared.rpc.messages import Changed
    from tests.simulation.checks.history import Histories
    from tests.simulation.checks.rights import Session
    from tests.simulation.engine.world import World
    from tests.simulation.redis.server import Server

_CALL: Final = "latchkey:call:"
_DEVICE: Final = device_key("")
_ROUNDING_SECONDS: Final = 0.001


class Callers:
    """Records who was admitted under which connection id, and checks what its calls change."""

    def __init__(self, world: World, histories: Histories, checked: Counter[str]) -> None:
        self._world = world
        self._histories = histories
        self._checked = checked
        self._sessions: dict[str, Session] = {}
        self._began: dict[str, float] = {}
        self._before: dict[str, Record | None] = {}

    def admitted(self, connection_id: str, session: Session) -> None:
        """Record who was admitted under a connection id."""
        self._sessions[connection_id] = session

    def called(self, call_id: str) -> None:
        """Record that a gateway forwards a call."""
        self._began[call_id] = self._world.now

    def returned(self, call_id: str, beat: Replica, server: Server) -> None:
        """Check that a caller learns of success only after its gateway has applied the change."""
        if self._world.now >= self._began[call_id] + DEADLINE_SECONDS - _ROUNDING_SECONDS:
            return
        for number, tag in self._histories.of_call(server, call_id):
            self._checked["I6 order"] += 1
            if number > beat.applied.number or beat._tag_at(number) not in {None, tag}:
                self._world.violate(
                    "I6", f"{call_id} is told of success before change {number} is applied there"
                )

    def before(self, server: Server, keys: Sequence[str]) -> None:
        """Record the state that a commit may depend on, just before it."""
        self._before.clear()
        device_ids = [key.removeprefix(_DEVICE) for key in keys if key.startswith(_DEVICE)]
        for key in keys:
            session = self._session(key.removeprefix(_CALL)) if key.startswith(_CALL) else None
            if session is not None:
                for device_id in (session.device_id, *device_ids):
                    self._before[device_id] = _record(server, device_id)

    def committed(self, server: Server, done: Sequence[Changed]) -> None:
        """Check the rights of callers whose calls made changes."""
        for change in done:
            if change.call_id:
                self._checked["I6"] += 1
                problem = self._problem(server, change)
                if problem:
                    self._world.violate("I6", f"{change.call_id} {change.kind}: {problem}")

    def _problem(self, server: Server, change: Changed) -> str:
        session = self._session(change.call_id)
        if session is None:
            return "its caller was never let in"
        if session.device_id not in self._before:
            return "its id is not kept"
        own = self._before[session.device_id]
        pairing = own.pairing if own else None
        token = pairing.tokens.get("operator") if pairing else None
        if (
            pairing is None
            or token is None
            or not token.active
            or token.token_generation != session.token_generation
        ):
            return "its caller's right had ended"
        held = [scope for scope in session.scopes if covers(pairing.scopes, scope, "operator")]
        before = self._before.get(change.device_id)
        needed = _needed(session, change, before, _record(server, change.device_id))
        missing = first_uncovered(held, needed, "operator")
        return f"its caller does not hold {missing}" if missing else ""

    def _session(self, call_id: str) -> Session | None:
        return self._sessions.get(call_id.rpartition("/")[0])


def _needed(
    session: Session, change: Changed, before: Record | None, after: Record | None
) -> set[str]:
    """Return the scopes that this change requires."""
    needed = {PAIRING}
    was = before.pairing if before else None
    now = after.pairing if after else None
    if session.confined and change.device_id != session.device_id:
        needed.add(ADMIN)
    if change.kind == "approved":
        gained = _usable(now) - _usable(was)
        needed |= {scope for role, scope in gained if role == "operator" and scope}
        needed |= {ADMIN for role, _scope in gained if role != "operator"}
    elif change.kind in {"rotated", "revoked"}:
        for pairing in (was, now):
            for role in change.closes:
                token = pairing.tokens[role] if pairing else None
                needed |= set(token.scopes) if token and role == "operator" else {ADMIN}
    elif change.kind in {"removed", "renamed"} and session.confined and was is not None:
        needed |= {ADMIN for role in was.roles if role != "operator"}
    return needed


def _usable(pairing: Pairing | None) -> set[tuple[str, str]]:
    """Return what a device may be admitted with: each of its roles with its scopes."""
    if pairing is None:
        return set()
    return {
        (role, scope)
        for role in pairing.effective_roles
        for scope in ("", *pairing.scopes)
        if not scope or scope.startswith(f"{role}.")
    }


def _record(server: Server, device_id: str) -> Record | None:
    value = server.data.texts.get(device_key(device_id))
    return decode_record(value[16:]) if value else None
