"""Limits open sockets before anything but their address is known.

WebSocket limits are checked again at the upgrade. Here every socket counts, so that clients that
only request pages, or nothing at all, leave descriptors for the bus, metrics and health.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shared.addresses import is_trusted, limit_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.server.pending_sockets import PendingSockets
    from shared.settings import Network

TRUSTED: Final = ""
"""The key of all trusted proxies: the clients behind them are not known yet."""


def _answer(text: str) -> bytes:
    return (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}"
    ).encode()


FULL_FOR_ADDRESS: Final = _answer("Too many unauthenticated sockets")
FULL: Final = _answer("Too many connections")


class ConnectionLimiter:
    """Limits all sockets together, and the unauthenticated sockets of each address.

    `others` returns how many other sockets count: in total, and for an address. When a limit is
    reached, the oldest idle socket is closed to make room, so that a flood displaces its own
    sockets. `count` is called for each closed socket: `idle`, or the limit that rejected it,
    `address` or `all`.
    """

    def __init__(
        self,
        arrivals: PendingSockets,
        *,
        limit: int,
        limit_per_address: int,
        trusted_proxies: tuple[Network, ...],
        count: Callable[[str], None],
        others: Callable[[str], tuple[int, int]] = lambda _key: (0, 0),
    ) -> None:
        self._arrivals = arrivals
        self._limit = limit
        self._limit_per_address = limit_per_address
        self._trusted_proxies = trusted_proxies
        self._count = count
        self._others = others

    def key(self, peer: str) -> str:
        """Return the key by which a peer's sockets are counted; trusted proxies share a key."""
        if self._trusted_proxies and is_trusted(peer, self._trusted_proxies):
            return TRUSTED
        return limit_key(peer)

    def refusal(self, peer: str) -> bytes | None:
        """Return the response to a socket that is rejected, or None if it is accepted."""
        key = self.key(peer)
        here, of_address = self._arrivals.counts(key)
        others, others_of_address = self._others(key)
        if key != TRUSTED and of_address + others_of_address >= self._limit_per_address:
            return self._evict(key, FULL_FOR_ADDRESS)
        if here + others >= self._limit:
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
