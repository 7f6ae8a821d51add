"""Events and sequence numbers of each connection, and what closes a device's connections."""

from __future__ import annotations

import itertools

import pytest

from services.gateway.connections.deadlines import SWEEP_SECONDS
from shared.protocol.events import Broadcast
from shared.protocol.limits import BUFFERED_LIMIT_BYTES, TICK_SECONDS
from tests.unit.gateway.fake_connections import DEVICE_ID, Room, closes, texts, transport_of

READ, WRITE, ADMIN, PAIRING = (f"operator.{name}" for name in ("read", "write", "admin", "pairing"))
NEWS = Broadcast("device.pair.changed", b"{}", PAIRING)
NEWER = Broadcast("device.pair.changed", b"{}", PAIRING, protocols=(4,))
WHO = Broadcast("presence", b'{"presence":[]}', READ, presence_version=7)
REMOVED = (4001, "device removed")
RESTART = (1012, "service restart")
RESPONSE = b'{"type":"res","id":"1","ok":true,"payload":{}}'


@pytest.fixture
def room() -> Room:
    return Room()


class TestBroadcast:
    @pytest.mark.parametrize("scopes", [(PAIRING,), (ADMIN,), (READ, PAIRING)])
    def test_who_holds_pairing_hears_it(self, room: Room, scopes: tuple[str, ...]) -> None:
        one = room.enter(*scopes)
        room.connections.broadcast(NEWS)
        assert texts(one) == [
            {"type": "event", "event": "device.pair.changed", "payload": {}, "seq": 1}
        ]

    @pytest.mark.parametrize("scopes", [(), (READ,), (WRITE,), ("node.pairing",)])
    def test_who_does_not_hold_it_does_not(self, room: Room, scopes: tuple[str, ...]) -> None:
        one = room.enter(*scopes)
        room.connections.broadcast(NEWS)
        assert texts(one) == []

    def test_a_node_does_not_whatever_it_claims(self, room: Room) -> None:
        node = room.enter(PAIRING, READ, ADMIN, role="node")
        for told in (NEWS, WHO):
            room.connections.broadcast(told)
        assert texts(node) == []

    def test_the_older_hear_only_what_is_theirs(self, room: Room) -> None:
        newer, older = room.enter(PAIRING), room.enter(PAIRING, protocol=3)
        room.connections.broadcast(NEWER)
        room.connections.broadcast(NEWS)
        assert [said["seq"] for said in texts(newer)] == [1, 2]
        assert [said["seq"] for said in texts(older)] == [1], "and it counts nothing else"

    @pytest.mark.parametrize("scopes", [(READ,), (WRITE,), (ADMIN,)])
    def test_presence_carries_its_version(self, room: Room, scopes: tuple[str, ...]) -> None:
        one, other = room.enter(*scopes), room.enter(PAIRING)
        room.connections.broadcast(WHO)
        assert texts(one) == [
            {
                "type": "event",
                "event": "presence",
                "payload": {"presence": []},
                "stateVersion": {"presence": 7, "health": 0},
                "seq": 1,
            }
        ]
        assert texts(other) == []

    def test_ticks_are_counted_with_the_rest_without_a_gap(self, room: Room) -> None:
        one, node = room.enter(PAIRING, READ), room.enter(role="node")
        for _ in range(8):
            room.connections.broadcast(NEWS)
            room.pass_time(TICK_SECONDS / 2)
            room.connections.broadcast(WHO)
        names = [said["event"] for said in texts(one)]
        assert names.count("tick") == 4
        assert names.index("tick") < len(names) - 1 - names[::-1].index("tick")
        assert [said["seq"] for said in texts(one)] == list(range(1, 8 * 2 + 4 + 1))
        assert [(said["event"], said["seq"]) for said in texts(node)] == [
            ("tick", number) for number in (1, 2, 3, 4)
        ]

    def test_who_does_not_read_is_closed_and_the_others_hear_it(self, room: Room) -> None:
        slow, quick = room.enter(PAIRING), room.enter(PAIRING)
        transport_of(slow).unread_bytes = BUFFERED_LIMIT_BYTES + 1
        room.connections.broadcast(NEWS)
        assert (texts(slow), closes(slow)) == ([], [(1013, "slow consumer")])
        assert len(texts(quick)) == 1

    def test_who_is_closed_hears_nothing_more(self, room: Room) -> None:
        one = room.enter(PAIRING, READ)
        assert (room.connections.audience(PAIRING), room.connections.audience(READ)) == (1, 1)
        room.connections.close(one, *REMOVED)
        room.connections.broadcast(NEWS)
        assert texts(one) == []
        assert (room.connections.audience(PAIRING), room.connections.audience(READ)) == (0, 0)

    @pytest.mark.parametrize(
        ("protocol", "payload"),
        [
            (4, {"reason": "gateway stopping"}),
            (3, {"reason": "gateway stopping", "restartExpectedMs": None}),
        ],
    )
    def test_a_shutdown_is_told_to_all(
        self, room: Room, protocol: int, payload: dict[str, object]
    ) -> None:
        everybody = [
            room.enter(PAIRING, protocol=protocol),
            room.enter(protocol=protocol),
            room.enter(role="node", protocol=protocol),
        ]
        room.connections.drain(until=room.clock.monotonic() + 10)
        for one in everybody:
            assert texts(one) == [
                {"type": "event", "event": "shutdown", "payload": payload, "seq": 1}
            ]


class TestDrain:
    def test_without_a_lease_nobody_is_told(self, room: Room) -> None:
        """A process whose lease ended while it was stopped may drain as soon as it wakes."""
        one = room.enter(READ)
        room.leased = lambda: False
        room.connections.drain(until=room.clock.monotonic() + 10)
        assert (texts(one), closes(one)) == ([], [(1013, "approval unavailable")])

    def test_closes_are_spread_over_the_time(self, room: Room) -> None:
        everybody = [room.enter(READ) for _ in range(100)]
        room.connections.drain(until=room.clock.monotonic() + 10)
        closed = [sum(map(bool, map(closes, everybody)))]
        for _ in range(int(10 / SWEEP_SECONDS)):
            room.clock.advance(SWEEP_SECONDS)
            room.connections.sweep()
            closed.append(sum(map(bool, map(closes, everybody))))
        steps = [after - before for before, after in itertools.pairwise(closed)]
        assert max(steps) <= 4
        assert closed[-1] == 100
        assert all(closes(one) == [RESTART] for one in everybody)

    def test_who_comes_in_meanwhile_goes_with_the_rest(self, room: Room) -> None:
        room.connections.drain(until=room.clock.monotonic() + 1)
        late = room.enter(READ)
        assert room.connections.draining
        room.clock.advance(1)
        room.connections.sweep()
        assert closes(late) == [RESTART]

    def test_without_time_all_are_closed_at_once(self, room: Room) -> None:
        one = room.enter(READ)
        room.connections.drain(until=room.clock.monotonic())
        assert closes(one) == [RESTART]


class TestCloseDevice:
    def test_closes_the_roles_that_are_named(self, room: Room) -> None:
        operator, node = room.enter(), room.enter(role="node")
        other = room.enter(device_id="another")
        assert room.connections.close_device(DEVICE_ID, ["node"], by_call="") == 1
        assert (closes(operator), closes(node)) == ([], [REMOVED])
        assert room.connections.close_device(DEVICE_ID, ["*"], by_call="") == 1
        assert (closes(operator), closes(other)) == ([REMOVED], [])

    def test_who_did_it_is_condemned_and_hears_what_came_of_it(self, room: Room) -> None:
        own, same_device = room.enter(PAIRING), room.enter(PAIRING)
        own.calls.add("boot:1/1")
        assert room.connections.close_device(DEVICE_ID, ["*"], by_call="boot:1/1") == 2
        assert closes(same_device) == [REMOVED]
        assert (closes(own), own.closing) == ([], True)
        room.connections.broadcast(NEWS)
        room.connections.respond(own, "boot:1/2", RESPONSE)
        assert texts(own) == [], "it is served no more"
        room.connections.respond(own, "boot:1/1", RESPONSE)
        assert [said["id"] for said in texts(own)] == ["1"]
        assert closes(own) == [REMOVED]

    def test_another_call_of_the_same_connection_does_not_keep_it(self, room: Room) -> None:
        own = room.enter(PAIRING)
        own.calls.add("boot:1/1")
        room.connections.close_device(DEVICE_ID, ["*"], by_call="boot:9/1")
        assert closes(own) == [REMOVED]
        room.connections.respond(own, "boot:1/1", RESPONSE)
        assert texts(own) == []

    def test_a_call_that_was_answered_already_does_not_keep_it(self, room: Room) -> None:
        own = room.enter(PAIRING)
        room.connections.respond(own, "boot:1/1", RESPONSE)
        room.connections.close_device(DEVICE_ID, ["*"], by_call="boot:1/1")
        assert len(texts(own)) == 1
        assert closes(own) == [REMOVED]

    def test_who_ended_itself_and_is_then_ended_by_another_is_closed_at_once(
        self, room: Room
    ) -> None:
        own = room.enter(PAIRING)
        own.calls.add("boot:1/1")
        room.connections.close_device(DEVICE_ID, ["operator"], by_call="boot:1/1")
        room.connections.close_device(DEVICE_ID, ["*"], by_call="boot:9/1")
        assert closes(own) == [REMOVED]
        room.connections.respond(own, "boot:1/1", RESPONSE)
        assert (texts(own), closes(own)) == ([], [REMOVED])

    def test_a_peer_that_is_gone_is_told_nothing(self, room: Room) -> None:
        own = room.enter(PAIRING)
        own.calls.add("boot:1/1")
        room.connections.close_device(DEVICE_ID, ["*"], by_call="boot:1/1")
        transport_of(own).closing = True
        room.connections.respond(own, "boot:1/1", RESPONSE)
        assert (texts(own), closes(own)) == ([], [])
        assert own.closed_with is not None
