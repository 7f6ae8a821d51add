"""The connections without a device, by address, and which of them gives way to a newcomer. Pure.

A connection is without a device from the upgrade until its device is admitted; if its client
presents none, until it ends.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from shared.addresses.holders import holders

if TYPE_CHECKING:
    from services.gateway.connections.connection import Connection


class Deviceless:
    """Connections without a device, in order of arrival under their limit keys.

    They count for their holders: an IPv4 address, or an IPv6 /48. The largest holder is always
    known, so that a flood that has reached a limit costs no more than other connections.
    """

    def __init__(self) -> None:
        self.by_key: dict[str, dict[Connection, None]] = {}
        self._admitted: dict[str, dict[Connection, None]] = {}
        """Those of clients that were admitted without a device."""
        self._held: dict[str, int] = {}
        """How many each holder has."""
        self._holders: dict[int, dict[str, None]] = {}
        """The holders that have so many, longest first."""
        self._most = 0
        self._within: dict[str, dict[str, int]] = {}
        """How many the /56s of a /48 have, and the /64s of a /56."""

    def __len__(self) -> int:
        return sum(map(len, self.by_key.values()))

    def add(self, connection: Connection) -> None:
        """Add a connection that was just upgraded."""
        self.by_key.setdefault(connection.limit_key, {})[connection] = None
        around = connection.holders
        self._change(around[0], 1)
        for network, part in pairwise(around):
            parts = self._within.setdefault(network, {})
            parts[part] = parts.get(part, 0) + 1

    def admit(self, connection: Connection) -> None:
        """Note that a client was admitted without a device."""
        self._admitted.setdefault(connection.limit_key, {})[connection] = None

    def remove(self, connection: Connection) -> None:
        """Remove a connection whose device was admitted, or that is being closed."""
        key = connection.limit_key
        same = self.by_key.get(key)
        if same is None or connection not in same:
            return
        del same[connection]
        if not same:
            del self.by_key[key]
        admitted = self._admitted.get(key)
        if admitted is not None:
            admitted.pop(connection, None)
            if not admitted:
                del self._admitted[key]
        around = connection.holders
        self._change(around[0], -1)
        for network, part in pairwise(around):
            parts = self._within[network]
            parts[part] -= 1
            if not parts[part]:
                del parts[part]
            if not parts:
                del self._within[network]

    def oldest_admitted(self, limit_key: str) -> Connection | None:
        """Return the oldest of a limit key whose client was admitted."""
        return next(iter(self._admitted.get(limit_key, ())), None)

    def oldest_of(self, holder: str) -> Connection | None:
        """Return the oldest of a holder; within a network, of the part that has the most."""
        if holder not in self._held:
            return None
        while parts := self._within.get(holder):
            holder = max(parts, key=parts.__getitem__)
        return next(iter(self.by_key[holder]))

    def displaced_by(self, limit_key: str) -> Connection | None:
        """Return the connection that gives way to a newcomer when no place is left.

        That is the oldest of the holder with the most, or of the newcomer's own holder if it would
        otherwise have more than the other keeps. None if there is no connection without a device.
        """
        own = holders(limit_key)[0]
        held = self._held.get(own, 0)
        if not self._most or (held and held + 1 > self._most - 1):
            return self.oldest_of(own)
        return self.oldest_of(next(iter(self._holders[self._most])))

    def _change(self, holder: str, by: int) -> None:
        """Count one connection of a holder more or less."""
        held = self._held.get(holder, 0)
        if held:
            same = self._holders[held]
            del same[holder]
            if not same:
                del self._holders[held]
        held += by
        if held:
            self._held[holder] = held
            self._holders.setdefault(held, {})[holder] = None
        else:
            del self._held[holder]
        if held > self._most:
            self._most = held
        elif self._most not in self._holders:
            self._most = held  # it was the only one with the most, and has one less
