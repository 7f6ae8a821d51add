"""Shares the HTTP connections to the upstream between addresses. Pure.

While all connections are in use, waiting addresses take turns. A waiting address also takes over a
connection of the address with the most: the oldest, once it has been in use for HELD_SECONDS. It
does so only if it has none itself, or would still not have more than the other. So requests that
end soon are not disturbed, and those that last give way to other addresses.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

HELD_SECONDS: Final = 2.0
"""How long a request keeps its connection before it may be displaced."""


@dataclass(eq=False, slots=True)
class Use:
    """A request of an address that waits for a connection or uses one."""

    key: str
    since: float | None = None
    """When it got the connection; None while it waits."""


class ConnectionShares:
    """Decides which requests use the connections."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._using: dict[Use, None] = {}
        self._by_key: Counter[str] = Counter()
        self._waiting: dict[str, deque[Use]] = {}

    @property
    def using(self) -> int:
        """The number of connections in use."""
        return len(self._using)

    @property
    def is_waiting(self) -> bool:
        """Whether a request waits for a connection."""
        return bool(self._waiting)

    def enter(self, key: str) -> Use:
        """Add a request, which waits until `settle` returns it."""
        use = Use(key)
        self._waiting.setdefault(key, deque()).append(use)
        return use

    def leave(self, use: Use) -> None:
        """Remove a request, whether it waits, uses a connection or was displaced."""
        if use in self._using:
            self._end(use)
        elif use.since is None:
            queue = self._waiting[use.key]
            queue.remove(use)
            if not queue:
                del self._waiting[use.key]

    def settle(self, now: float) -> tuple[list[Use], list[Use]]:
        """Return the requests that get a connection now, and those that lose theirs to them."""
        started, displaced = [], []
        while self._waiting:
            key = next(iter(self._waiting))
            if len(self._using) >= self._limit:
                largest = self._largest(now)
                if largest is None:
                    break
                most = self._by_key[largest.key]
                able = [key for key in self._waiting if self._may_displace(key, most)]
                if not able:
                    break
                key = able[0]
                self._end(largest)
                displaced.append(largest)
            started.append(self._start(key, now))
        return started, displaced

    def _largest(self, now: float) -> Use | None:
        """Return the request to displace: the oldest of the address with the most connections."""
        old = (use for use in self._using if now - (use.since or 0.0) >= HELD_SECONDS)
        return max(old, key=lambda use: self._by_key[use.key], default=None)

    def _may_displace(self, key: str, most: int) -> bool:
        own = self._by_key[key]
        return not own or own + 1 < most

    def _start(self, key: str, now: float) -> Use:
        """Start the first request of an address, whose next turn comes after all others."""
        queue = self._waiting.pop(key)
        use = queue.popleft()
        if queue:
            self._waiting[key] = queue
        use.since = now
        self._using[use] = None
        self._by_key[key] += 1
        return use

    def _end(self, use: Use) -> None:
        del self._using[use]
        self._by_key[use.key] -= 1
        if not self._by_key[use.key]:
            del self._by_key[use.key]
