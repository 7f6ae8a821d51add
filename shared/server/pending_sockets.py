"""Sockets that are no WebSocket: who has not asked yet, who is served plain HTTP, who is idle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from shared.protocol.limits import HANDSHAKE_DEADLINE_SECONDS

if TYPE_CHECKING:
    from shared.clock import Clock


class PendingSocket(Protocol):
    """A socket's protocol."""

    @property
    def is_open(self) -> bool:
        """Whether its transport is there: it is made a little after accept."""
        ...

    def abort(self) -> None:
        """End the socket."""
        ...

    def reject(self, answer: bytes) -> None:
        """End a socket that nothing was sent to, with an answer."""
        ...


class PendingSockets:
    """All sockets that are no WebSocket, from accept until they become one or are gone.

    They have as long for their first HTTP request as a WebSocket has for its handshake, whether
    they are silent or slow. The length is how many have not completed it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._deadlines: dict[PendingSocket, float] = {}
        self._keys: dict[PendingSocket, str] = {}
        self._by_key: dict[str, dict[PendingSocket, None]] = {}
        self._idle: dict[PendingSocket, None] = {}

    def __len__(self) -> int:
        return len(self._deadlines)

    def __contains__(self, one: PendingSocket) -> bool:
        return one in self._keys

    @property
    def here(self) -> int:
        """How many there are, whatever they have asked for so far."""
        return len(self._keys)

    def count(self, key: str) -> int:
        """Return how many of them count under a key."""
        return len(self._by_key.get(key, ()))

    def is_idle(self, one: PendingSocket) -> bool:
        """Say whether one has been answered and has not asked again."""
        return one in self._idle

    def evictable(self, key: str | None = None) -> PendingSocket | None:
        """Return the one that is missed least, or None where all are being served.

        Of all: who is idle for longest, else who has kept its first request back for longest. Of
        those under a key: who came first. Not one that was accepted just now, which would hold its
        descriptor for some turns of the loop more.
        """
        if key is None:
            oldest = next(iter(self._idle or self._deadlines), None)
            return oldest if oldest is not None and oldest.is_open else None
        for one in self._by_key.get(key, ()):
            if one in self._idle or (one in self._deadlines and one.is_open):
                return one
        return None

    def add(self, one: PendingSocket, key: str) -> None:
        """Note that a socket was accepted; `key` is what the limit of its address counts by."""
        self._deadlines[one] = self._clock.monotonic() + HANDSHAKE_DEADLINE_SECONDS
        self._keys[one] = key
        same = self._by_key.get(key)
        if same is None:
            self._by_key[key] = {one: None}
        else:
            same[one] = None

    def request_started(self, one: PendingSocket) -> None:
        """Note that a request of it is here: it is served."""
        self._deadlines.pop(one, None)
        self._idle.pop(one, None)

    def request_finished(self, one: PendingSocket) -> None:
        """Note that nothing of it is served any more: it may ask again."""
        if one in self._keys:
            self._idle[one] = None

    def remove(self, one: PendingSocket) -> None:
        """Note that it is a WebSocket now, or no more."""
        if one not in self._keys:
            return
        self.request_started(one)
        key = self._keys.pop(one)
        same = self._by_key[key]
        del same[one]
        if not same:
            del self._by_key[key]

    def end(self, one: PendingSocket) -> None:
        """End one."""
        self.remove(one)
        one.abort()

    def end_silent(self) -> None:
        """End all whose first request is not here: this replica leaves."""
        for one in list(self._deadlines):
            self.end(one)

    def sweep(self) -> None:
        """End those who took too long."""
        now = self._clock.monotonic()
        late = []
        for one, deadline in self._deadlines.items():
            if deadline > now:
                break
            late.append(one)
        for one in late:
            self.end(one)
