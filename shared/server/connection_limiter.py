"""Whether there is room for one more socket, before anything is known of it but where it is from.

The limits of WebSockets are looked at again when one is asked for. Here every socket counts, so
those who only ask for pages, or for nothing, leave descriptors for the bus, metrics and health.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shared.addresses import is_trusted, limit_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.server.pending_sockets import PendingSockets
    from shared.settings import Network

TRUSTED: Final = ""
"""The key of all trusted proxies: nobody knows yet whom they speak for."""


def _answer(text: str) -> bytes:
    return (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}"
    ).encode()


FULL_FOR_ADDRESS: Final = _answer("Too many unauthenticated sockets")
FULL: Final = _answer("Too many connections")


class ConnectionLimiter:
    """The limits of all sockets together, and of those of one address that are not let in.

    `others` and `others_of` say how many sockets count that are no arrivals: in all, and of an
    address. Who is not being served makes room for who comes, so that a flood displaces its own.
    `count` hears of each that had to go: `idle`, or by which limit it was turned away, `address` or
    `all`.
    """

    def __init__(
        self,
        arrivals: PendingSockets,
        *,
        limit: int,
        limit_per_address: int,
        trusted_proxies: tuple[Network, ...],
        count: Callable[[str], None],
        others: Callable[[], int] = lambda: 0,
        others_of: Callable[[str], int] = lambda _key: 0,
    ) -> None:
        self._arrivals = arrivals
        self._limit = limit
        self._limit_per_address = limit_per_address
        self._trusted_proxies = trusted_proxies
        self._count = count
        self._others = others
        self._others_of = others_of

    def key(self, peer: str) -> str:
        """Return what a peer's sockets count under; a trusted proxy has no limit of its own."""
        if self._trusted_proxies and is_trusted(peer, self._trusted_proxies):
            return TRUSTED
        return limit_key(peer)

    def refusal(self, peer: str) -> bytes | None:
        """Return the answer to a socket that is turned away, or None: it may come in."""
        arrivals = self._arrivals
        key = self.key(peer)
        if key != TRUSTED and arrivals.count(key) + self._others_of(key) >= self._limit_per_address:
            return self._evict(key, FULL_FOR_ADDRESS)
        if arrivals.here + self._others() >= self._limit:
            return self._evict(None, FULL)
        return None

    def _evict(self, key: str | None, refusal: bytes) -> bytes | None:
        arrivals = self._arrivals
        spare = arrivals.evictable(key)
        if spare is not None and arrivals.is_idle(spare):
            arrivals.end(spare)
            self._count("idle")
            return None
        self._count("all" if key is None else "address")
        if spare is None:
            return refusal
        arrivals.remove(spare)
        spare.reject(refusal)
        return None
