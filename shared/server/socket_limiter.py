"""Which sockets may be open: decides at accept, and closes those that take too long. Pure.

Nothing but the peer's address is known at accept, so every socket counts, whatever it will be used
for: clients that only request pages, or nothing at all, must leave descriptors for the bus, metrics
and health. The gateway checks the limits on WebSockets again at the upgrade.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from shared.addresses.client import is_trusted, limit_key
from shared.protocol.limits import HANDSHAKE_DEADLINE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sized

    from shared.clock import Clock
    from shared.settings.environment import Network

TRUSTED: Final = ""
"""The key of all trusted proxies: the clients behind them are not known yet."""
_NO_WEBSOCKETS: Final[Mapping[str, Sized]] = MappingProxyType({})


def _answer(text: str) -> bytes:
    return (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}"
    ).encode()


FULL_FOR_ADDRESS: Final = _answer("Too many unauthenticated sockets")
FULL: Final = _answer("Too many connections")


class PendingSocket(Protocol):
    """A socket that is not a WebSocket: waiting for a request, serving plain HTTP, or idle."""

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


_Socket = TypeVar("_Socket", bound=PendingSocket)


class SocketLimiter:
    """Limits all sockets together, and the unauthenticated sockets of each address.

    Pending sockets are counted here, from accept until they are upgraded or closed. `websockets`
    holds all open WebSockets, and `unauthenticated` those of each key; both are read at each
    accept. When a limit is reached, the oldest idle socket is closed to make room, so that a
    flood displaces its own sockets. If all sockets are being served, the address with the most of
    them loses its oldest. `count` is called for each closed socket: `idle`, `displaced`, or the
    limit that rejected it, `address` or `all`.

    The time limit for the first HTTP request is that of the WebSocket handshake, for silent and
    slow clients alike. The length is the number of sockets without a complete request.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        limit: int,
        limit_per_address: int,
        trusted_proxies: tuple[Network, ...],
        count: Callable[[str], None],
        websockets: Sized = (),
        unauthenticated: Mapping[str, Sized] = _NO_WEBSOCKETS,
    ) -> None:
        self._clock = clock
        self._limit = limit
        self._limit_per_address = limit_per_address
        self._trusted_proxies = trusted_proxies
        self._count = count
        self._websockets = websockets
        self._unauthenticated = unauthenticated
        self._deadlines: dict[PendingSocket, float] = {}
        self._keys: dict[PendingSocket, str] = {}
        self._by_key: dict[str, dict[PendingSocket, None]] = {}
        self._idle: dict[PendingSocket, None] = {}
        self._protected: set[PendingSocket] = set()

    def __len__(self) -> int:
        return len(self._deadlines)

    def __contains__(self, socket: PendingSocket) -> bool:
        return socket in self._keys

    @property
    def here(self) -> int:
        """The number of pending sockets, whatever they have requested so far."""
        return len(self._keys)

    def accept(self, make: Callable[[str, str], _Socket], peer: str) -> _Socket | bytes:
        """Return the new protocol of a socket, or the response with which to reject it.

        `make` gets the peer's IP address and the key by which its sockets are counted: trusted
        proxies share a key. The socket counts from now on, before its transport exists.
        """
        if self._trusted_proxies and is_trusted(peer, self._trusted_proxies):
            key = TRUSTED
        else:
            key = limit_key(peer)
        same = self._by_key.get(key, {})
        refusal = None
        if (
            key != TRUSTED
            and len(same) + len(self._unauthenticated.get(key, ())) >= self._limit_per_address
        ):
            refusal = self._make_room(key, FULL_FOR_ADDRESS)
        elif len(self._keys) + len(self._websockets) >= self._limit:
            refusal = self._make_room(None, FULL, key)
        if refusal is not None:
            return refusal
        socket = make(peer, key)
        self._deadlines[socket] = self._clock.monotonic() + HANDSHAKE_DEADLINE_SECONDS
        self._keys[socket] = key
        self._by_key.setdefault(key, same)[socket] = None
        return socket

    def request_started(self, socket: PendingSocket) -> None:
        """Note that a request is being served."""
        self._deadlines.pop(socket, None)
        self._idle.pop(socket, None)

    def request_finished(self, socket: PendingSocket) -> None:
        """Note that no request is being served; the client may send another."""
        if socket in self._keys:
            self._idle[socket] = None

    def protect(self, socket: PendingSocket) -> None:
        """Note that a socket is an operator's: it is not displaced while it is being served."""
        if socket in self._keys:
            self._protected.add(socket)

    def remove(self, socket: PendingSocket) -> None:
        """Remove a socket that was upgraded or closed."""
        key = self._keys.pop(socket, None)
        if key is None:
            return
        self._deadlines.pop(socket, None)
        self._idle.pop(socket, None)
        self._protected.discard(socket)
        same = self._by_key[key]
        del same[socket]
        if not same:
            del self._by_key[key]

    def end_silent(self) -> None:
        """Close all sockets without a complete request, when this replica shuts down."""
        for socket in list(self._deadlines):
            self._end(socket)

    def sweep(self) -> None:
        """Close sockets that took too long."""
        now = self._clock.monotonic()
        late = []
        for socket, deadline in self._deadlines.items():
            if deadline > now:
                break
            late.append(socket)
        for socket in late:
            self._end(socket)

    def _make_room(
        self, key: str | None, refusal: bytes, newcomer: str | None = None
    ) -> bytes | None:
        """Close a socket under a key (None: any) to make room; return `refusal` if none may be.

        While none is idle, a newcomer displaces one of the address with the most: the oldest silent
        socket of all may be that of a client whose request is about to be read.
        """
        spare = self._evictable(key)
        if newcomer is not None and (spare is None or spare not in self._idle):
            spare = self._largest(newcomer) or spare
        if spare is None:
            self._count("all" if key is None else "address")
            return refusal
        if spare in self._deadlines:
            self._count("all" if key is None else "address")
            self.remove(spare)
            spare.reject(refusal)
        else:
            self._count("idle" if spare in self._idle else "displaced")
            self._end(spare)
        return None

    def _evictable(self, key: str | None) -> PendingSocket | None:
        """Return the best socket to close, or None while all of them are being served.

        Without a key: the one idle for longest, else the one that has delayed its first request for
        longest. With a key: the oldest socket under it. A socket accepted just now is never chosen,
        as it would keep its descriptor for some loop iterations more.
        """
        if key is None:
            oldest = next(iter(self._idle or self._deadlines), None)
            return oldest if oldest is not None and oldest.is_open else None
        for socket in self._by_key.get(key, ()):
            if socket in self._idle or (socket in self._deadlines and socket.is_open):
                return socket
        return None

    def _largest(self, newcomer: str) -> PendingSocket | None:
        """Return the oldest socket of the address that has the most, and more than the newcomer.

        Sockets of operators and of trusted proxies are not chosen.
        """
        least = 0 if newcomer == TRUSTED else len(self._by_key.get(newcomer, ()))
        for key in sorted(self._by_key, key=lambda key: -len(self._by_key[key])):
            same = self._by_key[key]
            if len(same) <= least:
                return None
            if key == TRUSTED:
                continue
            for socket in same:
                if socket.is_open and socket not in self._protected:
                    return socket
        return None

    def _end(self, socket: PendingSocket) -> None:
        """Close one socket."""
        self.remove(socket)
        socket.abort()
