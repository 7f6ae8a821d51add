"""The histories that a store has had: one for each server, with its log over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from services.approval.storage.keys import CHANGES, HEAD
from shared.rpc.messages import EVERY_ROLE, Changed, Position
from tests.simulation.redis.presence_script import head_of

if TYPE_CHECKING:
    from tests.simulation.checks.rights import Session
    from tests.simulation.redis.server import Server

ALWAYS = float("-inf")
_ENDINGS = frozenset({"approved", "rejected", "expired", "displaced"})
_decode = msgspec.msgpack.Decoder(Changed).decode


class Histories:
    """Every committed change, and which of them each server has."""

    def __init__(self) -> None:
        self._times: dict[str, float] = {"": ALWAYS}
        self._changes: dict[str, Changed] = {}
        self._of: dict[Server, dict[str, int]] = {}
        self._calls: dict[str, list[list[str]]] = {}

    def note(self, server: Server, now: float) -> list[Changed]:
        """Read and return the new entries of a server's log."""
        known = self._of.setdefault(server, {})
        newest = next(reversed(known.values()), 0)
        fresh = []
        for number, fields in server.data.between(CHANGES, newest + 1):
            tag = fields[1].decode()
            known[tag] = number
            self._times.setdefault(tag, now)
            if tag not in self._changes:
                change = msgspec.structs.replace(
                    _decode(fields[5]),
                    change=Position(number, tag),
                    previous_tag=fields[3].decode(),
                )
                self._changes[tag] = change
                fresh.append(change)
        return fresh

    def inherit(self, old: Server, new: Server) -> int:
        """Record the history of a new server, a replica of an old one as of some moment.

        Returns how many changes of the old one it lacks: all, if that was flushed since.
        """
        _number, head = head_of(new.data, HEAD)
        back: dict[str, int] = {}
        tag = head.decode()
        while tag:
            change = self._changes[tag]
            back[tag] = change.change.number
            tag = change.previous_tag
        self._of[new] = dict(reversed(back.items()))
        return sum(tag not in back for tag in self._of.get(old, ()))

    def forget(self, server: Server) -> None:
        """Record that a server lost all its data."""
        self._of[server] = {}

    def time_of(self, change: Position) -> float:
        """Return when a change was committed; for an unknown one, ALWAYS."""
        return self._times.get(change.tag, ALWAYS)

    def later(self, server: Server, position: Position, other: Position) -> bool:
        """Return whether `other` is in this server's history and unknown at `position`."""
        if other.tag not in self._of.get(server, {}):
            return False
        for known in self._of.values():
            if position.tag in known and other.tag in known:
                return known[other.tag] > known[position.tag]
        return True

    def last_close(self, server: Server, device_id: str, role: str) -> float:
        """Return when this history last closed a role's sockets."""
        for tag in reversed(self._of.get(server, {})):
            change = self._changes[tag]
            if change.device_id == device_id and closes(change, role):
                return self._times[tag]
        return ALWAYS

    def closed_since(self, session: Session, server: Server) -> bool:
        """Return whether a change made after a session's decision, in any history, closes it.

        An event of a lost history may arrive late, and then takes effect whenever it was made.
        """
        known = self._of.get(server, {})
        return any(
            change.device_id == session.device_id
            and closes(change, session.role)
            and (self._times[tag] > session.decided_at or tag not in known)
            for tag, change in self._changes.items()
        )

    def first_of_call(self, server: Server, call_id: str, done: list[Changed]) -> bool:
        """Record what a call wrote; returns False if an earlier write of it still exists."""
        known = self._of[server]
        tags = [change.change.tag for change in done]
        before = self._calls.setdefault(call_id, [])
        twice = any(all(tag in known for tag in item) for item in before if item)
        if tags:
            before.append(tags)
        return not (twice and tags)

    def of_call(self, server: Server, call_id: str) -> list[tuple[int, str]]:
        """Return numbers and tags of a call's changes that this history still has."""
        known = self._of.get(server, {})
        tags = [tag for written in self._calls.get(call_id, ()) for tag in written]
        return [(known[tag], tag) for tag in tags if tag in known]

    def ended_twice(self, server: Server) -> str:
        """Return a request that this history ends more than once, or None."""
        ended: set[str] = set()
        for tag in self._of.get(server, {}):
            change: Any = self._changes[tag]
            if change.kind in _ENDINGS and change.request_id:
                if change.request_id in ended:
                    return str(change.request_id)
                ended.add(change.request_id)
        return ""


def closes(change: Changed, role: str) -> bool:
    return EVERY_ROLE in change.closes or role in change.closes
