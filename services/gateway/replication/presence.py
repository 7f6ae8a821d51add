"""What heartbeats report about devices here: who is connected, and who was admitted. Pure.

Presence is reported as deltas. A delta names the heartbeat it builds on, and approval applies it to
exactly that state (R13). If the two sides disagree, the full state is sent again, in parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from shared.protocol.limits import DISPLAY_NAME_LIMIT_CHARACTERS
from shared.protocol.platforms import VERSIONED_CLIENTS
from shared.rpc.reports import Seen

if TYPE_CHECKING:
    from services.gateway.handshake.outcome import Session
    from shared.rpc.messages import ClientInfo
    from shared.rpc.reports import Present

JOINED_PER_BEAT: Final = 1000
"""The most joined connections that one heartbeat reports; the rest wait for the next one."""
LEFT_PER_BEAT: Final = 2000
"""The most closed connections that one heartbeat reports."""
SEEN_PER_BEAT: Final = 500
"""The most devices that one heartbeat reports; the rest wait for the next one."""
SEEN_LIMIT: Final = 20_000
"""The most devices that are kept until reported; beyond it, the oldest is dropped."""
REPORTED_LIMIT_HEARTBEATS: Final = 64
"""How many heartbeats are remembered with what they reported.

If approval holds the presence of an older one, all is sent again.
"""

_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class _Delta:
    builds_on: int
    joined: list[Present]
    left: list[int]


class Presence:
    """The difference between the connections here and those that approval knows of.

    Approval's state after a heartbeat is that heartbeat's delta applied to the state it builds on.
    So an acknowledged heartbeat is accepted here only if it builds on the last accepted one, or on
    none.
    """

    def __init__(
        self, *, joined_per_beat: int = JOINED_PER_BEAT, left_per_beat: int = LEFT_PER_BEAT
    ) -> None:
        self._joined_per_beat = joined_per_beat
        self._left_per_beat = left_per_beat
        self.last_seen: Final = LastSeen()
        """Recently admitted devices, whether or not they are still connected."""
        self._here: dict[int, Present] = {}
        self._joining: dict[int, Present] = {}
        self._leaving: set[int] = set()
        self._reported: dict[int, _Delta] = {}
        self._builds_on = 0
        self._newest_answered = 0

    def __len__(self) -> int:
        return len(self._here)

    @property
    def behind(self) -> bool:
        """Whether more is unreported than fits in one heartbeat."""
        return (
            len(self._joining) > self._joined_per_beat or len(self._leaving) > self._left_per_beat
        )

    def add(self, present: Present) -> None:
        """Record an admitted connection."""
        self._here[present.number] = self._joining[present.number] = present

    def remove(self, number: int) -> None:
        """Record that a connection has closed."""
        if self._here.pop(number, None) is None:
            return
        if self._joining.pop(number, None) is None:
            self._leaving.add(number)

    def delta(self, heartbeat_id: int) -> tuple[int, list[Present], list[int]]:
        """Return a heartbeat's delta: the heartbeat it builds on, joined and left connections."""
        joined = list(islice(self._joining.values(), self._joined_per_beat))
        left = list(islice(self._leaving, self._left_per_beat))
        self._reported[heartbeat_id] = _Delta(self._builds_on, joined, left)
        if len(self._reported) > REPORTED_LIMIT_HEARTBEATS:
            del self._reported[next(iter(self._reported))]
        return self._builds_on, joined, left

    def acknowledge(self, heartbeat_id: int, presence_at: int) -> None:
        """Process an answered heartbeat; approval holds presence as of heartbeat `presence_at`.

        An answer to a heartbeat older than the newest answered one is ignored (R1).
        """
        if heartbeat_id < self._newest_answered:
            return
        self._newest_answered = heartbeat_id
        delta = self._reported.get(presence_at)
        if delta is not None and delta.builds_on in {0, self._builds_on}:
            if delta.builds_on != self._builds_on:
                self._restart()
            self._accept(delta)
            self._builds_on = presence_at
        elif presence_at != self._builds_on:
            self._restart()
        for older in [heartbeat for heartbeat in self._reported if heartbeat <= presence_at]:
            del self._reported[older]

    def _accept(self, delta: _Delta) -> None:
        for present in delta.joined:
            if present.number in self._here:
                self._joining.pop(present.number, None)
            else:
                self._leaving.add(present.number)
        self._leaving.difference_update(delta.left)

    def _restart(self) -> None:
        self._joining = dict(self._here)
        self._leaving.clear()
        self._builds_on = 0


class _Entry(msgspec.Struct, frozen=True, gc=False):
    at: float
    address: str
    client: ClientInfo


class LastSeen:
    """The last admission of each device that approval does not know of yet.

    An entry is kept until a heartbeat that reported it is answered. Reports are idempotent.
    """

    def __init__(self, *, seen_per_beat: int = SEEN_PER_BEAT, limit: int = SEEN_LIMIT) -> None:
        self._per_beat = seen_per_beat
        self._limit = limit
        self._unreported: dict[_Key, _Entry] = {}
        self._reported: dict[int, list[tuple[_Key, _Entry]]] = {}

    def __len__(self) -> int:
        return len(self._unreported)

    @property
    def behind(self) -> bool:
        """Whether more is unreported than fits in one heartbeat."""
        return len(self._unreported) > self._per_beat

    def record(self, session: Session, client: ClientInfo, at: float) -> None:
        """Record that a device was admitted; `at` is in monotonic seconds."""
        key = (session.device_id, session.role, session.method)
        self._unreported.pop(key, None)
        self._unreported[key] = _Entry(at, session.address, client)
        if len(self._unreported) > self._limit:
            del self._unreported[next(iter(self._unreported))]

    def take_unsent(self, heartbeat_id: int, now: float) -> list[Seen]:
        """Return what this heartbeat reports, oldest first."""
        reported = list(islice(self._unreported.items(), self._per_beat))
        if reported:
            self._reported[heartbeat_id] = reported
            if len(self._reported) > REPORTED_LIMIT_HEARTBEATS:
                del self._reported[next(iter(self._reported))]
        return [_seen(key, entry, now) for key, entry in reported]

    def acknowledge(self, heartbeat_id: int) -> None:
        """Drop what an answered heartbeat reported, except devices admitted again since."""
        for key, entry in self._reported.pop(heartbeat_id, ()):
            if self._unreported.get(key) is entry:
                del self._unreported[key]
        for older in [heartbeat for heartbeat in self._reported if heartbeat < heartbeat_id]:
            del self._reported[older]


def _seen(key: _Key, entry: _Entry, now: float) -> Seen:
    client = entry.client
    app = client.id if client.id in VERSIONED_CLIENTS else ""
    return Seen(
        *key,
        address=entry.address,
        age_ms=max(0, round((now - entry.at) * 1000)),
        name=client.display_name,
        app=app,
        platform=client.platform[:DISPLAY_NAME_LIMIT_CHARACTERS] if app else "",
    )
