"""Presence of devices on this gateway, reported to approval as deltas in heartbeats. Pure.

A delta names the heartbeat it builds on, and approval applies it to exactly that state (R13). If
the two sides disagree, the full state is sent again, in parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from services.gateway.replication.last_seen import LastSeen

if TYPE_CHECKING:
    from shared.rpc.reports import Present

JOINED_PER_BEAT: Final = 1000
"""The most joined connections that one heartbeat reports; the rest wait for the next one."""
LEFT_PER_BEAT: Final = 2000
"""The most closed connections that one heartbeat reports."""
REPORTED_LIMIT_BEATS: Final = 64
"""How many heartbeats are remembered; if approval holds an older one, all is sent again."""


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

    def delta(self, beat_id: int) -> tuple[int, list[Present], list[int]]:
        """Return a heartbeat's delta: the heartbeat it builds on, joined and left connections."""
        joined = list(islice(self._joining.values(), self._joined_per_beat))
        left = list(islice(self._leaving, self._left_per_beat))
        self._reported[beat_id] = _Delta(self._builds_on, joined, left)
        if len(self._reported) > REPORTED_LIMIT_BEATS:
            del self._reported[next(iter(self._reported))]
        return self._builds_on, joined, left

    def acknowledge(self, beat_id: int, presence_at: int) -> None:
        """Process an answered heartbeat; approval holds presence as of heartbeat `presence_at`.

        An answer to a heartbeat older than the newest answered one is ignored (R1).
        """
        if beat_id < self._newest_answered:
            return
        self._newest_answered = beat_id
        delta = self._reported.get(presence_at)
        if delta is not None and delta.builds_on in {0, self._builds_on}:
            if delta.builds_on != self._builds_on:
                self._restart()
            self._accept(delta)
            self._builds_on = presence_at
        elif presence_at != self._builds_on:
            self._restart()
        for older in [beat for beat in self._reported if beat <= presence_at]:
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
