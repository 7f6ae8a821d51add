"""The held connections: who is held, what ends a hold, and who gives way first."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from services.gateway.connections.connection import Connection
from services.gateway.connections.held import (
    ENDED_PER_SWEEP,
    HELD_LIMIT,
    Held,
    HeldConnections,
    HeldLimits,
    HoldEnd,
)
from services.gateway.connections.places import ALL, OF_ADDRESS, WITHOUT_DEVICE, PlaceLimits
from shared.addresses.holders import holders
from shared.rpc.messages import Changed, Position
from tests.unit.gateway.fake_connections import FakeTransport

if TYPE_CHECKING:
    import asyncio

REQUEST = "the request"
ADDRESS = "203.0.113.7"
OTHER = "203.0.113.8"


class Waiters:
    """Holds connections, and records how each hold ended."""

    def __init__(self, *, total: int = 10_000, per_address: int = 10_000) -> None:
        self.held = HeldConnections(HeldLimits(10.0, total, per_address))
        self.ends: list[tuple[str, HoldEnd, str]] = []
        self._number = 0

    def hold(self, device: str, address: str = ADDRESS, *, until: float = 10.0) -> Held | None:
        """Hold a connection of a device; None: it is not held."""
        self._number += 1
        transport = cast("asyncio.Transport", FakeTransport())
        connection = Connection(self._number, transport, address, holders(address), 0.0)
        held = Held(connection, _Waiter(self, device), device, REQUEST, until)
        return held if self.held.hold(held) else None

    def change(self, kind: str, device: str = "a", **more: str) -> None:
        """Apply a change of a device."""
        self.held.on_change(Changed(Position(2, "t"), "s", device, kind, 0, **more))  # type: ignore[arg-type]

    @property
    def ended(self) -> list[tuple[str, HoldEnd]]:
        return [(device, end) for device, end, _request in self.ends]


class _Waiter:
    def __init__(self, waiters: Waiters, device: str) -> None:
        self._waiters = waiters
        self._device = device

    def end_hold(self, end: HoldEnd, request_id: str) -> None:
        self._waiters.ends.append((self._device, end, request_id))


@pytest.fixture
def waiters() -> Waiters:
    return Waiters()


class TestChanges:
    @pytest.mark.parametrize(
        ("kind", "end"),
        [
            ("approved", HoldEnd.GRANTED),
            ("imported", HoldEnd.GRANTED),
            ("rejected", HoldEnd.ENDED),
            ("expired", HoldEnd.ENDED),
            ("removed", HoldEnd.ENDED),
        ],
    )
    def test_a_decision_ends_the_hold_of_its_device_alone(
        self, waiters: Waiters, kind: str, end: HoldEnd
    ) -> None:
        waiters.hold("a")
        waiters.hold("b")
        waiters.change(kind)
        waiters.change(kind)
        assert waiters.ends == [("a", end, REQUEST)]
        assert len(waiters.held) == 1

    @pytest.mark.parametrize("kind", ["renamed", "rotated", "revoked", "unknown"])
    def test_other_changes_do_not(self, waiters: Waiters, kind: str) -> None:
        waiters.hold("a")
        waiters.change(kind)
        assert waiters.ends == []

    def test_a_superseding_request_is_the_one_that_is_reported(self, waiters: Waiters) -> None:
        waiters.hold("a")
        waiters.change("requested", request_id="a wider one", superseded_id=REQUEST)
        assert waiters.ends == []
        waiters.held.sweep(10.0)
        assert waiters.ends == [("a", HoldEnd.TIME, "a wider one")]


class TestBounds:
    def test_the_newest_connection_of_a_device_is_held(self, waiters: Waiters) -> None:
        waiters.hold("a")
        assert waiters.hold("a")
        assert waiters.ended == [("a", HoldEnd.REPLACED)]
        waiters.change("approved")
        assert waiters.ended[1:] == [("a", HoldEnd.GRANTED)]

    def test_no_more_than_the_limits(self) -> None:
        waiters = Waiters(total=3, per_address=2)
        assert waiters.hold("a")
        assert waiters.hold("b")
        assert not waiters.hold("c"), "too many of one address"
        assert waiters.hold("d", OTHER)
        assert not waiters.hold("e", OTHER), "too many"
        waiters.change("approved")
        assert waiters.hold("e", OTHER)

    def test_one_network_is_one_address(self) -> None:
        waiters = Waiters(per_address=1)
        assert waiters.hold("a", "2001:db8:1:1::/64")
        assert not waiters.hold("b", "2001:db8:1:2::/64")
        assert waiters.hold("c", "2001:db8:2:1::/64")

    def test_most_places_are_left_to_others(self) -> None:
        assert HeldLimits.within(PlaceLimits(20_000, 10_000, 64, 32), 5) == HeldLimits(5, 1000, 16)
        assert HeldLimits.within(PlaceLimits(100, 50, 64, 32), 5) == HeldLimits(5, 25, 16)
        assert HeldLimits.within(PlaceLimits(1, 1, 1, 1), 5) == HeldLimits(5, 1, 1)

    def test_nobody_is_held_if_it_is_off(self) -> None:
        waiters = Waiters()
        waiters.held = HeldConnections(HeldLimits(0, 10, 10))
        assert not waiters.hold("a")


class TestGivingWay:
    def test_the_oldest_of_the_address_that_is_full(self, waiters: Waiters) -> None:
        for device, address in (("a", OTHER), ("b", ADDRESS), ("c", ADDRESS)):
            waiters.hold(device, address)
        for limit in (WITHOUT_DEVICE, OF_ADDRESS):
            assert waiters.held.give_way(ADDRESS, limit)
            assert waiters.held.ended[HoldEnd.DISPLACED] == len(waiters.ends)
        assert waiters.ended == [("b", HoldEnd.DISPLACED), ("c", HoldEnd.DISPLACED)]
        assert not waiters.held.give_way(ADDRESS, OF_ADDRESS), "others do not help"

    def test_only_those_of_the_same_subnet_free_a_place_of_it(self, waiters: Waiters) -> None:
        waiters.hold("a", "2001:db8:1:1::/64")
        assert not waiters.held.give_way("2001:db8:1:2::/64", WITHOUT_DEVICE)
        assert waiters.held.give_way("2001:db8:1:2::/64", OF_ADDRESS)

    def test_of_the_address_with_the_most_if_no_place_is_left(self, waiters: Waiters) -> None:
        for device, address in (("a", OTHER), ("b", ADDRESS), ("c", ADDRESS)):
            waiters.hold(device, address)
        assert waiters.held.give_way("198.51.100.1", ALL)
        assert waiters.ended == [("b", HoldEnd.DISPLACED)]

    def test_nobody_if_nobody_is_held(self, waiters: Waiters) -> None:
        assert not waiters.held.give_way(ADDRESS, ALL)


class TestSweep:
    def test_each_hold_has_its_own_end(self, waiters: Waiters) -> None:
        waiters.hold("long", until=28.0)
        waiters.hold("short", until=8.0)
        waiters.held.sweep(7.9)
        assert waiters.ended == []
        waiters.held.sweep(8.0)
        assert waiters.ended == [("short", HoldEnd.TIME)]
        waiters.held.sweep(28.0)
        assert waiters.ended[1:] == [("long", HoldEnd.TIME)]

    def test_many_end_over_several_sweeps(self, waiters: Waiters) -> None:
        for number in range(HELD_LIMIT):
            waiters.hold(str(number))
        waiters.held.end_all(HoldEnd.UNAVAILABLE)
        assert waiters.ended == []
        waiters.held.sweep(0.0)
        assert len(waiters.ended) == ENDED_PER_SWEEP
        for _ in range(3):
            waiters.held.sweep(0.0)
        assert len(waiters.ended) == HELD_LIMIT
        assert {end for _device, end in waiters.ended} == {HoldEnd.UNAVAILABLE}
        assert waiters.hold("another"), "who comes later is held again"
        waiters.held.sweep(0.0)
        assert len(waiters.ended) == HELD_LIMIT

    def test_nobody_is_held_while_the_gateway_drains(self, waiters: Waiters) -> None:
        waiters.hold("a")
        waiters.held.stop()
        waiters.held.sweep(0.0)
        assert waiters.ended == [("a", HoldEnd.RESTART)]
        assert not waiters.hold("b")

    def test_a_lost_connection_is_forgotten(self, waiters: Waiters) -> None:
        held = waiters.hold("a")
        assert held is not None
        waiters.held.lost(held.connection)
        waiters.held.lost(held.connection)
        waiters.change("approved")
        assert waiters.ends == []
        assert waiters.held.ended[HoldEnd.GONE] == 1
