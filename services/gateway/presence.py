"""Who is connected here, as beats tell it: only what changed since one that arrived. Pure.

A delta names the beat it builds on; approval applies it only on exactly that one (R13). When the
two do not meet, everything is told anew, in parts.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from shared.messages import Present

JOINED_PER_BEAT: Final = 1000
"""How many connections one beat tells of at most; the rest wait for the next."""

_Told = tuple[list["Present"], list[int]]


class Presence:
    """The difference between who is here and who approval knows to be here."""

    def __init__(self) -> None:
        self._here: dict[int, Present] = {}
        self._joining: dict[int, Present] = {}
        self._leaving: set[int] = set()
        self._told: dict[int, _Told] = {}
        self._builds_on = 0

    def __len__(self) -> int:
        return len(self._here)

    def joined(self, one: Present) -> None:
        """Note that a connection is here."""
        self._here[one.number] = self._joining[one.number] = one

    def left(self, number: int) -> None:
        """Note that a connection is gone."""
        if self._here.pop(number, None) is None:
            return
        if self._joining.pop(number, None) is None:
            self._leaving.add(number)

    def delta(self, beat_id: int) -> tuple[int, list[Present], list[int]]:
        """Return what this beat tells: the beat it builds on, who joined and who left."""
        told = list(islice(self._joining.values(), JOINED_PER_BEAT)), list(self._leaving)
        self._told[beat_id] = told
        return self._builds_on, *told

    def answered(self, presence_at: int) -> None:
        """Take which beat's presence approval holds; one that is unknown here starts all anew."""
        told = self._told.get(presence_at)
        if told is not None:
            for one in told[0]:
                if one.number in self._here:
                    self._joining.pop(one.number, None)
                else:
                    self._leaving.add(one.number)
            self._leaving.difference_update(told[1])
            self._builds_on = presence_at
        elif presence_at != self._builds_on:
            self._joining = dict(self._here)
            self._leaving.clear()
            self._builds_on = 0
        for older in [one for one in self._told if one <= presence_at]:
            del self._told[older]
