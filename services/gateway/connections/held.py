"""Connections that are held until their device's request is decided. Pure.

A held client would have been told "pairing required". It has no task and no timer: a change of its
device ends the hold, and so does the sweep when its time is over. Held clients are the first to
give way: then they get the refusal that they would have got at once.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from services.gateway.connections.places import OF_ADDRESS, WITHOUT_DEVICE
from shared.addresses.holders import holders

if TYPE_CHECKING:
    from services.gateway.connections.connection import Connection
    from services.gateway.connections.places import Limit, PlaceLimits
    from shared.rpc.messages import Changed

HELD_LIMIT: Final = 1000
"""How many clients one gateway holds at most; less if that is over a quarter of its places."""
PLACES_PER_HELD: Final = 4
PLACES_PER_HELD_OF_ADDRESS: Final = 2
"""One address may fill half of its places without a device with held clients."""
ENDED_PER_SWEEP: Final = 250
"""How many holds one sweep ends, so that the event loop is not blocked."""

_GRANTING: Final = frozenset({"approved", "imported"})
"""Changes after which the device may be admitted."""
_ENDING: Final = frozenset({"rejected", "expired", "removed"})
"""Changes that end the device's request without an approval."""


class HoldEnd(StrEnum):
    """Why a hold ended."""

    GRANTED = "granted"
    """The device was approved: approval is asked again."""
    ENDED = "ended"
    """The request was rejected, expired, or was removed with its device."""
    TIME = "time"
    """The client could not wait any longer."""
    REPLACED = "replaced"
    """The same device connected again."""
    DISPLACED = "displaced"
    """Its place was needed."""
    UNAVAILABLE = "unavailable"
    """Decisions can no longer be received: the lease ended, or history was lost."""
    RESTART = "restart"
    """This replica drains."""
    GONE = "gone"
    """The connection was closed, usually by the client."""


class Waiter(Protocol):
    """The session of a held client."""

    def end_hold(self, end: HoldEnd, request_id: str) -> None:
        """Continue; `request_id` is the request of the device that waits, or waited last."""
        ...


class Held(msgspec.Struct, eq=False):
    """One held connection. `until` is in monotonic seconds."""

    connection: Connection
    waiter: Waiter
    device_id: str
    request_id: str
    until: float
    end: HoldEnd = HoldEnd.TIME
    """What the sweep ends it with."""


class HeldLimits(msgspec.Struct, frozen=True):
    """How long clients are held, and how many. `seconds` of 0: nobody is held."""

    seconds: float
    total: int
    per_address: int
    """Of one IPv4 address or IPv6 /48."""

    @classmethod
    def within(cls, places: PlaceLimits, seconds: float) -> HeldLimits:
        """Return the limits that leave most places to others."""
        return cls(
            seconds,
            total=min(HELD_LIMIT, max(1, places.total // PLACES_PER_HELD)),
            per_address=max(1, places.deviceless_per_address // PLACES_PER_HELD_OF_ADDRESS),
        )


class HeldConnections:
    """The held connections of this replica, by device: at most one of each."""

    def __init__(self, limits: HeldLimits) -> None:
        self.limits: Final = limits
        self._by_connection: dict[Connection, Held] = {}
        self._by_device: dict[str, Held] = {}
        self._by_address: dict[str, dict[Held, None]] = {}
        self._accepts = limits.seconds > 0
        self.ended = dict.fromkeys(HoldEnd, 0)
        """How many holds have ended, by the reason."""

    def __len__(self) -> int:
        return len(self._by_connection)

    def hold(self, held: Held) -> bool:
        """Hold a connection if there is room; an older one of its device is told to continue."""
        if not self._accepts:
            return False
        older = self._by_device.get(held.device_id)
        if older is not None:
            self._end(older, HoldEnd.REPLACED)
        address = held.connection.holders[0]
        if (
            len(self._by_connection) >= self.limits.total
            or len(self._by_address.get(address, ())) >= self.limits.per_address
        ):
            return False
        self._by_connection[held.connection] = held
        self._by_device[held.device_id] = held
        self._by_address.setdefault(address, {})[held] = None
        return True

    def on_change(self, change: Changed) -> None:
        """Handle a change of a device, once it is applied here."""
        held = self._by_device.get(change.device_id)
        if held is None:
            return
        if change.kind in _GRANTING:
            self._end(held, HoldEnd.GRANTED)
        elif change.kind in _ENDING:
            self._end(held, HoldEnd.ENDED)
        elif change.kind == "requested" and change.request_id:
            held.request_id = change.request_id

    def give_way(self, limit_key: str, limit: Limit) -> bool:
        """End the oldest hold that uses up a limit; return whether there was one.

        If no place at all is left, that is one of the address with the most.
        """
        if not self._by_connection:
            return False
        if limit is WITHOUT_DEVICE or limit is OF_ADDRESS:
            same = self._by_address.get(holders(limit_key)[0], {})
        else:
            same = max(self._by_address.values(), key=len)
        for held in same:
            if limit is not WITHOUT_DEVICE or held.connection.limit_key == limit_key:
                self._end(held, HoldEnd.DISPLACED)
                return True
        return False

    def end_all(self, end: HoldEnd) -> None:
        """End all holds in the next sweeps."""
        for held in self._by_connection.values():
            held.until, held.end = float("-inf"), end

    def stop(self) -> None:
        """Hold nobody from now on, and end all holds because this replica drains."""
        self._accepts = False
        self.end_all(HoldEnd.RESTART)

    def sweep(self, now: float) -> None:
        """End the holds whose time is over, a limited number at a time."""
        due = [held for held in self._by_connection.values() if held.until <= now]
        for held in due[:ENDED_PER_SWEEP]:
            # Ending one may have closed another: they may share a device.
            if held.connection in self._by_connection:
                self._end(held, held.end)

    def lost(self, connection: Connection) -> None:
        """Forget a connection that is being closed."""
        held = self._by_connection.get(connection)
        if held is not None:
            self._remove(held, HoldEnd.GONE)

    def _end(self, held: Held, end: HoldEnd) -> None:
        self._remove(held, end)
        held.waiter.end_hold(end, held.request_id)

    def _remove(self, held: Held, end: HoldEnd) -> None:
        self.ended[end] += 1
        del self._by_connection[held.connection]
        del self._by_device[held.device_id]
        address = held.connection.holders[0]
        same = self._by_address[address]
        del same[held]
        if not same:
            del self._by_address[address]
