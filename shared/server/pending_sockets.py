"""Sockets that are not WebSockets: waiting for a request, serving plain HTTP, or idle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from shared.protocol.limits import HANDSHAKE_DEADLINE_SECONDS

if TYPE_CHECKING:
    from shared.clock import Clock


class PendingSocket(Protocol):
    """The protocol of a socket."""

    @property
    def is_open(self) -> bool:
        """Whether the transport is open: it is created shortly after accept."""
        ...

    def abort(self) -> None:
        """Abort the socket."""
        ...

    def reject(self, answer: bytes) -> None:
        """Send a response on a socket to which nothing was sent, and close it."""
        ...


class PendingSockets:
    """All sockets that are not WebSockets, from accept until they are upgraded or closed.

    The time limit for the first HTTP request is that of the WebSocket handshake, for silent and
    slow clients alike. The length is the number of sockets without a complete request.
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
        """The number of sockets, whatever they have requested so far."""
        return len(self._keys)

    def counts(self, key: str) -> tuple[int, int]:
        """Return the number of sockets in all, and of those counted under a key."""
        return len(self._keys), len(self._by_key.get(key, ()))

    def is_idle(self, one: PendingSocket) -> bool:
        """Return whether a socket has been answered and has sent no further request."""
        return one in self._idle

    def evictable(self, key: str | None = None) -> PendingSocket | None:
        """Return the best socket to close, or None while all of them are being served.

        Without a key: the one idle for longest, else the one that has delayed its first request for
        longest. With a key: the oldest socket under it. A socket accepted just now is never chosen,
        as it would keep its descriptor for some loop iterations more.
        """
        if key is None:
            oldest = next(iter(self._idle or self._deadlines), None)
            return oldest if oldest is not None and oldest.is_open else None
        for one in self._by_key.get(key, ()):
            if one in self._idle or (one in self._deadlines and one.is_open):
                return one
        return None

    def add(self, one: PendingSocket, key: str) -> None:
        """Add an accepted socket; `key` is the one its address limit counts by."""
        self._deadlines[one] = self._clock.monotonic() + HANDSHAKE_DEADLINE_SECONDS
        self._keys[one] = key
        same = self._by_key.get(key)
        if same is None:
            self._by_key[key] = {one: None}
        else:
            same[one] = None

    def request_started(self, one: PendingSocket) -> None:
        """Note that a request is being served."""
        self._deadlines.pop(one, None)
        self._idle.pop(one, None)

    def request_finished(self, one: PendingSocket) -> None:
        """Note that no request is being served; the client may send another."""
        if one in self._keys:
            self._idle[one] = None

    def remove(self, one: PendingSocket) -> None:
        """Remove a socket that was upgraded or closed."""
        key = self._keys.pop(one, None)
        if key is None:
            return
        self._deadlines.pop(one, None)
        self._idle.pop(one, None)
        same = self._by_key[key]
        del same[one]
        if not same:
            del self._by_key[key]

    def end(self, one: PendingSocket) -> None:
        """Close one socket."""
        self.remove(one)
        one.abort()

    def end_silent(self) -> None:
        """Close all sockets without a complete request, when this replica shuts down."""
        for one in list(self._deadlines):
            self.end(one)

    def sweep(self) -> None:
        """Close sockets that took too long."""
        now = self._clock.monotonic()
        late = []
        for one, deadline in self._deadlines.items():
            if deadline > now:
                break
            late.append(one)
        for one in late:
            self.end(one)
