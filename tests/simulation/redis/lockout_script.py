"""lockout.lua in Python, over the in-memory database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from tests.simulation.redis.database import Word, to_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.simulation.redis.database import Database

Entry = list[int]
"""Failures, start (ms), locked until (ms)."""

_EMPTY = b"\x80"
_unpack = msgspec.msgpack.Decoder().decode
_pack = msgspec.msgpack.Encoder().encode


@dataclass
class _Attempt:
    """The script's arguments for one class, and how long that class is locked."""

    name: str
    values: list[str]
    left: int


class LockoutScript:
    """One run of the script."""

    def __init__(
        self, data: Database, keys: Sequence[str], args: Sequence[Word], now_ms: int
    ) -> None:
        self._data = data
        self._keys = keys
        self._now = now_ms
        self._clears = to_text(args[0]) == "clear"
        self._window, self._most, self._lock = map(int, args[1:4])
        self._remembered, self._capacity, self._not_after = map(int, args[4:7])
        self._address = to_text(args[7])
        self._beside = int(args[8])
        self._guard: dict[str, Entry] = _unpack(data.texts.get(keys[0], _EMPTY))
        stored = data.texts.get(keys[1])
        self._version = int(stored[:16]) + 1 if stored else now_ms * 1000
        self._wrong: dict[str, dict[str, int]] = _unpack(stored[16:] if stored else _EMPTY)
        self._attempts = self._read([to_text(word) for word in args[9:]])

    def run(self) -> int:
        """Run the script."""
        if all(attempt.left for attempt in self._attempts):
            return self._first_lock()
        if 0 < self._not_after < self._now:
            return -1
        no_lockouts = [attempt for attempt in self._attempts if not attempt.left]
        if self._clears:
            for attempt in no_lockouts:
                self._guard.pop(attempt.name, None)
            self._keep()
        else:
            self._count(no_lockouts)
        return self._first_lock()

    def _read(self, words: list[str]) -> list[_Attempt]:
        found = []
        while words:
            name, count = words[0], int(words[1])
            until = self._guard[name][2] if name in self._guard else 0
            found.append(_Attempt(name, words[2 : 2 + count], max(0, int(until) - self._now)))
            words = words[2 + count :]
        return found

    def _first_lock(self) -> int:
        return next((attempt.left for attempt in self._attempts if attempt.left), 0)

    def _count(self, no_lockouts: list[_Attempt]) -> None:
        changed = locks = False
        for attempt in no_lockouts:
            known = self._wrong.get(attempt.name, {})
            fresh, refreshed = self._fresh(attempt, known)
            changed |= refreshed or bool(fresh)
            if not fresh:
                continue
            entry = self._failed(attempt, len(fresh))
            if not attempt.left:
                known.update(dict.fromkeys(fresh, self._now))
                self._wrong[attempt.name] = known
            self._guard[attempt.name] = entry
            if entry[2] > self._now:
                locks = True
                self._data.add(self._keys[2], entry[2], f"{attempt.name} {self._address}")
        if changed:
            stored = {name: self._kept(known) for name, known in self._wrong.items()}
            self._wrong = {name: known for name, known in stored.items() if known}
            self._keep()
        if locks:
            self._data.take_up_to(self._keys[2], self._now)
            self._data.expire(self._keys[2], self._now + self._lock)

    def _fresh(self, attempt: _Attempt, known: dict[str, int]) -> tuple[list[str], bool]:
        """Return the values that are not known, and whether a known one was refreshed."""
        fresh, refreshed = [], False
        for value in attempt.values:
            last = known.get(value)
            if last is None or self._now - last >= self._remembered:
                fresh.append(value)
            elif self._now - last >= self._window:
                known[value] = self._now
                refreshed = True
        return fresh, refreshed

    def _failed(self, attempt: _Attempt, fresh: int) -> Entry:
        """Return the state after this many new wrong values; too many lock the attempt out."""
        failures, since, _until = self._guard.get(attempt.name, [0, 0, 0])
        if self._now - since >= self._window:
            failures, since = 0, self._now
        if failures + fresh + self._beside > self._most:
            attempt.left = self._lock
            return [self._most, self._now, self._now + self._lock]
        failures += fresh
        if failures >= self._most:
            return [failures, self._now, self._now + self._lock]
        return [failures, since, 0]

    def _kept(self, known: dict[str, int]) -> dict[str, int]:
        recent = [
            (last, value) for value, last in known.items() if self._now - last < self._remembered
        ]
        return {value: last for last, value in sorted(recent, reverse=True)[: self._capacity]}

    def _keep(self) -> None:
        if self._guard:
            expires = self._now + self._window + self._lock
            self._data.set(self._keys[0], _pack(self._guard), expires)
        else:
            self._data.delete(self._keys[0])
        values = b"%016d" % self._version + _pack(self._wrong)
        self._data.set(self._keys[1], values, self._now + self._remembered)
