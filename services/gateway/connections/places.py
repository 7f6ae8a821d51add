"""The places of one replica: how many connections it has, and who gives way at a limit. Pure.

A newcomer's device is not known before it is admitted, so every newcomer takes the place of a
connection without a device if there is one. A connection whose device was admitted is displaced
only by another one of the same device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from services.gateway.connections.deviceless import Deviceless
from shared.addresses.holders import holders

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sized

    from services.gateway.connections.connection import Connection

CLOSING_ROOM: Final = 64
"""How many connections may be closing while all places are taken; then the oldest is aborted."""


class Limit(NamedTuple):
    """A limit on connections: its name in metrics, and what clients that reach it are told.

    `refusal` is the body of a 503, and `displaced` the reason of the close (1013).
    """

    name: str
    refusal: str
    displaced: str


WITHOUT_DEVICE: Final = Limit(
    "address",
    "Too many unauthenticated sockets",
    "too many clients without a device at this address",
)
OF_ADDRESS: Final = Limit(
    "address-connections",
    "Too many connections from this address, try again later; operators: set TRUSTED_PROXIES if it"
    " is a proxy, else raise GATEWAY_CONNECTION_LIMIT_PER_ADDRESS",
    "too many connections from this address",
)
ALL: Final = Limit(
    "all",
    "Too many connections",
    "the gateway is full: clients without a device give way",
)
OF_DEVICE: Final = Limit(
    "device",
    "Too many connections of this device",
    "too many connections of this device: the oldest gives way",
)

LIMITS: Final = (WITHOUT_DEVICE, OF_ADDRESS, ALL, OF_DEVICE)


@dataclass(frozen=True, slots=True)
class PlaceLimits:
    """The limits on the connections of one replica."""

    total: int
    per_address: int
    """Of one IPv4 address or IPv6 /48."""
    per_device: int
    deviceless_per_address: int
    """Without a device, of one IPv4 address or IPv6 /64."""


class Places:
    """Counts the connections that are not closing, and finds the one that gives way.

    Every operation takes constant time.
    """

    def __init__(self, limits: PlaceLimits) -> None:
        self.limits: Final = limits
        self._deviceless = Deviceless()
        self._by_address: dict[str, int] = {}
        self._taken: set[Connection] = set()
        self._by_device: dict[str, dict[Connection, None]] = {}
        self._pipes: Sized = ()
        self.displaced = dict.fromkeys((limit.name for limit in LIMITS), 0)
        """How many connections were displaced, by the name of the limit."""

    @property
    def pipes(self) -> int:
        """The number of pipes to the upstream."""
        return len(self._pipes)

    @property
    def deviceless(self) -> Mapping[str, Sized]:
        """The connections without a device of each address, as a live view."""
        return self._deviceless.by_key

    @property
    def open_limit(self) -> int:
        """How many connections may be open, including those that are closing."""
        return self.limits.total + CLOSING_ROOM - len(self._pipes)

    def count_pipes(self, pipes: Sized) -> None:
        """Let the pipes to the upstream take places as well."""
        self._pipes = pipes

    def of_device(self, device_id: str) -> Collection[Connection]:
        """Return the connections of a device, oldest first."""
        return self._by_device.get(device_id, {}).keys()

    def take(self, connection: Connection) -> None:
        """Let a connection that was just upgraded take a place."""
        self._taken.add(connection)
        self._deviceless.add(connection)
        address = connection.holders[0]
        self._by_address[address] = self._by_address.get(address, 0) + 1

    def admit(self, connection: Connection, device_id: str) -> None:
        """Note that a client was admitted; without a device if `device_id` is empty.

        Trusted local clients keep their places like those with a device.
        """
        if device_id:
            self._by_device.setdefault(device_id, {})[connection] = None
        if device_id or connection.trusted_local:
            self._deviceless.remove(connection)
        else:
            self._deviceless.admit(connection)

    def release(self, connection: Connection) -> None:
        """Release the place of a connection that is being closed, once."""
        if connection not in self._taken:
            return
        self._taken.remove(connection)
        address = connection.holders[0]
        left = self._by_address[address] - 1
        if left:
            self._by_address[address] = left
        else:
            del self._by_address[address]
        session = connection.session
        if session is not None and session.device_id:
            same = self._by_device[session.device_id]
            same.pop(connection, None)
            if not same:
                del self._by_device[session.device_id]
        else:
            self._deviceless.remove(connection)

    def limit_reached(self, limit_key: str, *, is_exempt: bool) -> Limit | None:
        """Return which limit a newcomer of an address reaches, or None.

        An address that is exempt has no limit on its connections.
        """
        limits = self.limits
        if len(self._deviceless.by_key.get(limit_key, ())) >= limits.deviceless_per_address:
            return WITHOUT_DEVICE
        if not is_exempt and self._by_address.get(holders(limit_key)[0], 0) >= limits.per_address:
            return OF_ADDRESS
        return ALL if len(self._taken) + len(self._pipes) >= limits.total else None

    def displaced_by(self, limit_key: str, limit: Limit) -> Connection | None:
        """Return which connection gives way to a newcomer at a limit, or None."""
        if limit is WITHOUT_DEVICE:
            return self._deviceless.oldest_admitted(limit_key)
        if limit is OF_ADDRESS:
            return self._deviceless.oldest_of(holders(limit_key)[0])
        return self._deviceless.displaced_by(limit_key)

    def displaced_by_device(self, device_id: str) -> Connection | None:
        """Return which connection gives way to another one of its device, or None."""
        same = self._by_device.get(device_id, ())
        if len(same) < self.limits.per_device:
            return None
        return next((connection for connection in same if not connection.stopped), None)
