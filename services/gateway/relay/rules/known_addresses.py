"""Addresses from which admitted devices connected; only these get an upstream socket early.

Pure. An address is a limit key: an IPv4 address, or an IPv6 network of 64 bits.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

ADDRESSES_LIMIT: Final = 100_000
"""How many addresses are remembered; the one that was heard of longest ago is dropped first."""
KEPT_SECONDS: Final = 24 * 3600.0
"""How long an address is known after its last admission."""


class KnownAddresses:
    """A bounded, expiring set. Losing it costs a client one retry."""

    def __init__(self, *, limit: int = ADDRESSES_LIMIT, kept_seconds: float = KEPT_SECONDS) -> None:
        self._limit = limit
        self._kept_seconds = kept_seconds
        self._until: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def add(self, limit_key: str, now: float) -> bool:
        """Remember an address; returns whether it was unknown. `now` is monotonic seconds."""
        fresh = not self.knows(limit_key, now)
        self._until[limit_key] = now + self._kept_seconds
        self._until.move_to_end(limit_key)
        if len(self._until) > self._limit:
            self._until.popitem(last=False)
        return fresh

    def update(self, limit_keys: Iterable[str], now: float) -> None:
        """Remember addresses that other replicas reported."""
        for limit_key in limit_keys:
            self.add(limit_key, now)

    def knows(self, limit_key: str, now: float) -> bool:
        """Return whether a device was admitted from an address within the last day."""
        until = self._until.get(limit_key)
        if until is None:
            return False
        if until > now:
            return True
        del self._until[limit_key]
        return False
