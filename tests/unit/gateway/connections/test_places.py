"""Who gives way at each limit of the hub, and what is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.gateway.connections.places import (
    ALL,
    CLOSING_ROOM,
    OF_ADDRESS,
    OF_DEVICE,
    WITHOUT_DEVICE,
)
from shared.protocol.closing import CloseCode
from tests.unit.gateway.fake_connections import FakeSessions, closes, transport_of

if TYPE_CHECKING:
    from services.gateway.connections.connection import Connection
    from services.gateway.connections.places import Limit

RESTART = (1012, "service restart")


def newcomer(
    sessions: FakeSessions, address: str = "newcomer", *, is_exempt: bool = False
) -> Limit | Connection:
    """Let a client connect; returns its connection, or the limit that rejects it."""
    limit = sessions.connections.make_room(address, is_exempt=is_exempt)
    return sessions.open(address) if limit is None else limit


def displaced(connection: Connection, limit: Limit) -> bool:
    return closes(connection) == [(CloseCode.TRY_AGAIN, limit.displaced)]


class TestFull:
    def test_devices_keep_their_places(self) -> None:
        sessions = FakeSessions(limit=3)
        held = [sessions.enter(device_id=str(number)) for number in range(3)]
        assert newcomer(sessions) is ALL
        assert [closes(each) for each in held] == [[], [], []]

    def test_a_newcomer_displaces_a_client_without_a_device(self) -> None:
        sessions = FakeSessions(limit=3)
        sessions.enter(device_id="one")
        oldest = sessions.enter(device_id="", address="flood")
        pending = sessions.open("flood")
        assert not isinstance(newcomer(sessions), tuple)
        assert displaced(oldest, ALL)
        assert not isinstance(newcomer(sessions, "another"), tuple)
        assert displaced(pending, ALL)
        assert sessions.connections.places.displaced["all"] == 2

    def test_a_flood_leaves_a_pending_handshake_alone(self) -> None:
        sessions = FakeSessions(limit=10)
        honest = sessions.open("honest")
        for number in range(200):
            assert not isinstance(newcomer(sessions, f"flood {number % 4}"), tuple)
        assert closes(honest) == []
        assert sessions.connections.pending == 10
        sessions.admit(honest, device_id="paired")
        for number in range(200):
            newcomer(sessions, f"flood {number}")
        assert closes(honest) == []

    def test_a_trusted_local_client_keeps_its_place(self) -> None:
        sessions = FakeSessions(limit=1)
        local = sessions.enter(device_id="", trusted_local=True)
        assert newcomer(sessions) is ALL
        assert closes(local) == []

    def test_pipes_take_places_and_displace_nobody(self) -> None:
        sessions = FakeSessions(limit=2)
        sessions.connections.places.count_pipes([1, 2])
        assert newcomer(sessions) is ALL
        assert len(sessions.connections) == 2

    def test_closing_connections_take_none_but_are_bounded(self) -> None:
        sessions = FakeSessions(limit=1)
        made: list[Connection] = []
        for number in range(CLOSING_ROOM + 10):
            connection = newcomer(sessions, str(number))
            assert not isinstance(connection, tuple)
            made.append(connection)
        lingering = [each for each in made if not transport_of(each).aborts]
        assert len(lingering) == CLOSING_ROOM + 1
        assert lingering == made[-len(lingering) :], "the first to be closed are aborted"
        assert len(sessions.connections) == len(made), "until their transports are closed"
        for connection in made:
            sessions.connections.lost(connection)
        assert len(sessions.connections) == 0
        assert sessions.connections.make_room("1", is_exempt=False) is None

    def test_refused_clients_that_linger_take_no_place(self) -> None:
        sessions = FakeSessions(limit=1)
        refused = sessions.open()
        sessions.connections.close(refused, CloseCode.TOO_BIG, "no")
        assert not isinstance(newcomer(sessions), tuple)
        assert sessions.connections.places.displaced["all"] == 0


class TestWithoutDevice:
    def test_they_count_against_their_address_while_they_are_connected(self) -> None:
        sessions = FakeSessions(deviceless=2)
        sessions.open("a")
        sessions.open("a")
        assert newcomer(sessions, "a") is WITHOUT_DEVICE
        assert not isinstance(newcomer(sessions, "b"), tuple)
        deviceless = sessions.connections.places.deviceless
        assert {key: len(held) for key, held in deviceless.items()} == {"a": 2, "b": 1}

    def test_one_that_was_admitted_gives_way_at_its_address(self) -> None:
        sessions = FakeSessions(deviceless=2)
        admitted, pending = sessions.enter(device_id="", address="a"), sessions.open("a")
        assert not isinstance(newcomer(sessions, "a"), tuple)
        assert displaced(admitted, WITHOUT_DEVICE)
        assert newcomer(sessions, "a") is WITHOUT_DEVICE
        assert closes(pending) == []

    def test_devices_and_trusted_local_clients_do_not_count(self) -> None:
        sessions = FakeSessions(deviceless=1)
        for number in range(3):
            sessions.enter(device_id=str(number), address="a")
            sessions.enter(device_id="", address="a", trusted_local=True)
        assert sessions.connections.places.deviceless == {}
        assert not isinstance(newcomer(sessions, "a"), tuple)


class TestPerAddress:
    def test_devices_of_one_address_are_limited(self) -> None:
        sessions = FakeSessions(per_address=2)
        held = [sessions.enter(device_id=str(number), address="a") for number in range(2)]
        assert newcomer(sessions, "a") is OF_ADDRESS
        assert not isinstance(newcomer(sessions, "b"), tuple)
        assert not isinstance(newcomer(sessions, "a", is_exempt=True), tuple)
        sessions.connections.close(held[0], CloseCode.NORMAL, "")
        sessions.connections.close(held[1], CloseCode.NORMAL, "")
        assert not isinstance(newcomer(sessions, "a"), tuple)

    def test_it_displaces_its_own_without_a_device_first(self) -> None:
        sessions = FakeSessions(per_address=2)
        sessions.enter(device_id="one", address="a")
        own, other = sessions.open("a"), sessions.open("b")
        assert not isinstance(newcomer(sessions, "a"), tuple)
        assert displaced(own, OF_ADDRESS)
        assert closes(other) == []

    def test_an_ipv6_48_counts_as_one_address(self) -> None:
        sessions = FakeSessions(per_address=2)
        for part in range(2):
            sessions.enter(device_id=str(part), address=f"2001:db8:1:{part}::/64")
        assert newcomer(sessions, "2001:db8:1:9::/64") is OF_ADDRESS
        assert not isinstance(newcomer(sessions, "2001:db8:2:9::/64"), tuple)


class TestPerDevice:
    def test_the_oldest_gives_way(self) -> None:
        sessions = FakeSessions(per_device=2)
        first, second, third = (sessions.enter(device_id="d") for _ in range(3))
        assert displaced(first, OF_DEVICE)
        sessions.enter(device_id="other")
        assert closes(second) == closes(third) == []
        assert sessions.connections.places.displaced["device"] == 1
        assert list(sessions.connections.places.of_device("d")) == [second, third]

    def test_the_only_one_gives_way(self) -> None:
        sessions = FakeSessions(per_device=1)
        dead, again = sessions.enter(device_id="d"), sessions.enter(device_id="d")
        assert displaced(dead, OF_DEVICE)
        assert closes(again) == []
        assert sessions.connections.close_device("d", ["operator"], "") == 1

    def test_clients_without_a_device_are_no_device(self) -> None:
        sessions = FakeSessions(per_device=1)
        assert [closes(sessions.enter(device_id="")) for _ in range(3)] == [[], [], []]

    def test_those_already_queued_to_be_closed_are_let_be(self) -> None:
        sessions = FakeSessions(per_device=1)
        queued = sessions.enter(device_id="d")
        queued.stopped = True
        sessions.enter(device_id="d")
        assert closes(queued) == []


class TestDrain:
    def test_displaced_ones_are_closed_once(self) -> None:
        sessions = FakeSessions(per_device=1, limit=3)
        first, second = sessions.enter(device_id="d"), sessions.enter(device_id="d")
        pending = sessions.open("flood")
        sessions.open("flood")
        newcomer(sessions)
        sessions.connections.drain(sessions.clock.monotonic())
        assert displaced(first, OF_DEVICE)
        assert displaced(pending, ALL)
        assert closes(second) == [RESTART]
        assert sessions.connections.admitted == 0

    def test_a_queued_close_does_not_follow_a_displacement(self) -> None:
        sessions = FakeSessions(limit=1)
        connection = sessions.enter(device_id="")
        queue = sessions.connections._close_queue
        queue.schedule([connection], CloseCode.RESTART, "later", until=1e9)
        assert not isinstance(newcomer(sessions), tuple)
        queue.sweep(1e9)
        assert displaced(connection, ALL)
