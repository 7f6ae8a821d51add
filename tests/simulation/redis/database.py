"""The data of Redis in memory: the few kinds of values and commands that the store uses.

Time is passed in, in milliseconds, so that a write log can be replayed: a promoted replica executes
the same writes, as far as it had received them. `tests/simulation/test_contract.py` compares it
with Redis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from redis.exceptions import ResponseError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Word = str | bytes | int | float
Entry = tuple[int, tuple[bytes, ...]]
"""One entry of a stream: its number (the id is `<number>-0`), and alternating fields and values."""

NEVER: Final = float("inf")


class Database:
    """Strings, sorted sets, hashes and streams by key."""

    def __init__(self) -> None:
        self.texts: dict[str, bytes] = {}
        self.sorted: dict[str, dict[str, float]] = {}
        self.hashes: dict[str, dict[str, bytes]] = {}
        self.streams: dict[str, list[Entry]] = {}
        self.writable = True
        self._expires: dict[str, int] = {}
        self._next_expiry_ms: float = NEVER
        """The earliest expiry."""

    def require_writable(self) -> None:
        """Raise the error of a demoted master at the first write of a command or script."""
        if not self.writable:
            message = "NOREPLICAS Not enough good replicas to write."
            raise ResponseError(message)

    def clear(self) -> None:
        """Delete everything."""
        for kind in (self.texts, self.sorted, self.hashes, self.streams, self._expires):
            kind.clear()

    def forget_expired(self, now_ms: int) -> None:
        """Delete expired keys."""
        if now_ms >= self._next_expiry_ms:
            for key in [key for key, when in self._expires.items() if when <= now_ms]:
                self._drop(key)
            self._next_expiry_ms = min(self._expires.values(), default=NEVER)

    def delete(self, key: str) -> None:
        """Delete a key."""
        self.require_writable()
        self._drop(key)

    def _drop(self, key: str) -> None:
        self.texts.pop(key, None)
        self.sorted.pop(key, None)
        self.hashes.pop(key, None)
        self.streams.pop(key, None)
        self._expires.pop(key, None)

    def expire(self, key: str, at_ms: int) -> None:
        """Delete a key at a time."""
        self.require_writable()
        self._expire(key, at_ms)

    def _expire(self, key: str, at_ms: int) -> None:
        self._expires[key] = at_ms
        self._next_expiry_ms = min(self._next_expiry_ms, at_ms)

    def set(self, key: str, value: bytes, expires_ms: int | None = None) -> None:
        """Set a string; without an expiry, an earlier expiry is cleared."""
        self.require_writable()
        self.texts[key] = value
        if expires_ms is None:
            self._expires.pop(key, None)
        else:
            self._expire(key, expires_ms)

    def add(self, key: str, score: float, member: str) -> None:
        """Put a member into a sorted set."""
        self.require_writable()
        self.sorted.setdefault(key, {})[member] = score

    def take(self, key: str, member: str) -> None:
        """Remove a member from a sorted set."""
        self.require_writable()
        members = self.sorted.get(key)
        if members is not None:
            members.pop(member, None)
            if not members:
                self.delete(key)

    def take_up_to(self, key: str, maximum: float) -> int:
        """Remove the members up to a score from a sorted set; returns how many."""
        self.require_writable()
        members = self.sorted.get(key, {})
        gone = [member for member, score in members.items() if score <= maximum]
        for member in gone:
            self.take(key, member)
        return len(gone)

    def ranked(self, key: str) -> list[tuple[float, str]]:
        """Return a sorted set by score, then by member."""
        return sorted((score, member) for member, score in self.sorted.get(key, {}).items())

    def append(self, key: str, number: int, fields: Iterable[bytes], maximum: int) -> None:
        """Append to a stream and keep this many entries."""
        self.require_writable()
        stream = self.streams.setdefault(key, [])
        if stream and number <= stream[-1][0]:
            message = "ERR The ID specified in XADD is equal or smaller than the target stream"
            raise ValueError(message)
        stream.append((number, tuple(fields)))
        del stream[:-maximum]

    def between(self, key: str, first: int, maximum: int | None = None) -> Sequence[Entry]:
        """Return a stream's entries from a number on, at most `maximum`."""
        found = [entry for entry in self.streams.get(key, ()) if entry[0] >= first]
        return found if maximum is None else found[:maximum]

    def run(self, command: str, key: str, words: Sequence[Word], now_ms: int) -> None:
        """Run one of the commands allowed in a plan."""
        if command == "SET":
            expires = now_ms + int(words[2]) if len(words) > 1 else None
            self.set(key, to_bytes(words[0]), expires)
        elif command == "DEL":
            self.delete(key)
        elif command == "ZADD":
            self.add(key, float(words[0]), to_text(words[1]))
        elif command == "ZREM":
            self.take(key, to_text(words[0]))
        else:
            message = f"the simulated Redis does not know {command}"
            raise NotImplementedError(message)


def to_bytes(word: Word) -> bytes:
    """Return a value as Redis stores it."""
    return word if isinstance(word, bytes) else str(word).encode()


def to_text(word: Word) -> str:
    """Return a value as text."""
    return word.decode() if isinstance(word, bytes) else str(word)
