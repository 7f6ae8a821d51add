"""Events and sequence numbers of each connection, and what closes a device's connections."""

from __future__ import annotations

import itertools

import pytest

from services.gateway.connections.deadlines import SWEEP_SECONDS
from shared.protocol.events import Broadcast
from shared.protocol.limits import BUFFERED_LIMIT_BYTES, PING_SECONDS, TICK_SECONDS
from tests.unit.gateway.fake_connections import DEVICE_ID, FakeSessions, closes, texts, transport_of

READ, WRITE, ADMIN, PAIRING = (f"operator.{name}" for name in ("read", "write", "admin", "pairing"))
EVENTS = Broadcast("device.pair.changed", b"{}", PAIRING)
NEWER = Broadcast("device.pair.changed", b"{}", PAIRING, protocols=(4,))
WHO = Broadcast("presence", b'{"presence":[]}', READ, presence_version=7)
REMOVED = (4001, "device removed")
RESTART = (1012, "service restart")
RESPONSE = b'{"type":"res","id":"1","ok":true,"payload":{}}'


@pytest.fixture
def sessions() -> FakeSessions:
    return FakeSessions()


class TestBroadcast:
    @pytest.mark.parametrize("scopes", [(PAIRING,), (ADMIN,), (READ, PAIRING)])
    def test_clients_with_the_pairing_scope_get_it(
        self, sessions: FakeSessions, scopes: tuple[str, ...]
    ) -> None:
        connection = sessions.enter(*scopes)
        sessions.connections.broadcast(EVENTS)
        assert texts(connection) == [
            {"type": "event", "event": "device.pair.changed", "payload": {}, "seq": 1}
        ]

    @pytest.mark.parametrize("scopes", [(), (READ,), (WRITE,), ("node.pairing",)])
    def test_a_client_without_the_scope_does_not(
        self, sessions: FakeSessions, scopes: tuple[str, ...]
    ) -> None:
        connection = sessions.enter(*scopes)
        sessions.connections.broadcast(EVENTS)
        assert texts(connection) == []

    def test_a_node_gets_no_events_whatever_it_claims(self, sessions: FakeSessions) -> None:
        node = sessions.enter(PAIRING, READ, ADMIN, role="node")
        for item in (EVENTS, WHO):
            sessions.connections.broadcast(item)
        assert texts(node) == []

    def test_the_older_hear_only_what_is_theirs(self, sessions: FakeSessions) -> None:
        newer, older = sessions.enter(PAIRING), sessions.enter(PAIRING, protocol=3)
        sessions.connections.broadcast(NEWER)
        sessions.connections.broadcast(EVENTS)
        assert [message["seq"] for message in texts(newer)] == [1, 2]
        assert [message["seq"] for message in texts(older)] == [1], "and it counts nothing else"

    @pytest.mark.parametrize("scopes", [(READ,), (WRITE,), (ADMIN,)])
    def test_presence_carries_its_version(
        self, sessions: FakeSessions, scopes: tuple[str, ...]
    ) -> None:
        one, other = sessions.enter(*scopes), sessions.enter(PAIRING)
        sessions.connections.broadcast(WHO)
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

    def test_ticks_are_counted_with_the_rest_without_a_gap(self, sessions: FakeSessions) -> None:
        one, node = sessions.enter(PAIRING, READ), sessions.enter(role="node")
        for _ in range(8):
            sessions.connections.broadcast(EVENTS)
            sessions.pass_time(TICK_SECONDS / 2)
            sessions.connections.broadcast(WHO)
        names = [message["event"] for message in texts(one)]
        assert names.count("tick") == 4
        assert names.index("tick") < len(names) - 1 - names[::-1].index("tick")
        assert [message["seq"] for message in texts(one)] == list(range(1, 8 * 2 + 4 + 1))
        assert [(message["event"], message["seq"]) for message in texts(node)] == [
            ("tick", number) for number in (1, 2, 3, 4)
        ]

    def test_a_client_that_does_not_read_is_closed_and_others_get_the_event(
        self, sessions: FakeSessions
    ) -> None:
        slow, quick = sessions.enter(PAIRING), sessions.enter(PAIRING)
        transport_of(slow).unread_bytes = BUFFERED_LIMIT_BYTES + 1
        sessions.connections.broadcast(EVENTS)
        assert (texts(slow), closes(slow)) == ([], [(1013, "slow consumer")])
        assert len(texts(quick)) == 1

    def test_a_closed_client_gets_nothing_more(self, sessions: FakeSessions) -> None:
        connection = sessions.enter(PAIRING, READ)
        assert (sessions.connections.audience(PAIRING), sessions.connections.audience(READ)) == (
            1,
            1,
        )
        sessions.connections.close(connection, *REMOVED)
        sessions.connections.broadcast(EVENTS)
        assert texts(connection) == []
        assert (sessions.connections.audience(PAIRING), sessions.connections.audience(READ)) == (
            0,
            0,
        )

    @pytest.mark.parametrize(
        ("protocol", "payload"),
        [
            (4, {"reason": "gateway stopping"}),
            (3, {"reason": "gateway stopping", "restartExpectedMs": None}),
        ],
    )
    def test_a_shutdown_is_announced_to_all(
        self, sessions: FakeSessions, protocol: int, payload: dict[str, object]
    ) -> None:
        everybody = [
            sessions.enter(PAIRING, protocol=protocol),
            sessions.enter(protocol=protocol),
            sessions.enter(role="node", protocol=protocol),
        ]
        sessions.connections.drain(until=sessions.clock.monotonic() + 10)
        for item in everybody:
            assert texts(item) == [
                {"type": "event", "event": "shutdown", "payload": payload, "seq": 1}
            ]


class TestDrain:
    def test_without_a_lease_nothing_is_sent(self, sessions: FakeSessions) -> None:
        """A process whose lease ended while it was stopped may drain as soon as it wakes."""
        connection = sessions.enter(READ)
        sessions.leased = lambda: False
        sessions.connections.drain(until=sessions.clock.monotonic() + 10)
        assert (texts(connection), closes(connection)) == ([], [(1013, "approval unavailable")])

    def test_closes_are_spread_over_the_time(self, sessions: FakeSessions) -> None:
        everybody = [sessions.enter(READ) for _ in range(100)]
        sessions.connections.drain(until=sessions.clock.monotonic() + 10)
        closed = [sum(map(bool, map(closes, everybody)))]
        for _ in range(int(10 / SWEEP_SECONDS)):
            sessions.clock.advance(SWEEP_SECONDS)
            sessions.connections.sweep()
            closed.append(sum(map(bool, map(closes, everybody))))
        steps = [after - before for before, after in itertools.pairwise(closed)]
        assert max(steps) <= 4
        assert closed[-1] == 100
        assert all(closes(item) == [RESTART] for item in everybody)

    def test_clients_admitted_meanwhile_are_closed_with_the_rest(
        self, sessions: FakeSessions
    ) -> None:
        sessions.connections.drain(until=sessions.clock.monotonic() + 1)
        late = sessions.enter(READ)
        assert sessions.connections.draining
        sessions.clock.advance(1)
        sessions.connections.sweep()
        assert closes(late) == [RESTART]

    def test_without_time_all_are_closed_at_once(self, sessions: FakeSessions) -> None:
        connection = sessions.enter(READ)
        sessions.connections.drain(until=sessions.clock.monotonic())
        assert closes(connection) == [RESTART]


class TestCloseDevice:
    def test_closes_the_roles_that_are_named(self, sessions: FakeSessions) -> None:
        operator, node = sessions.enter(), sessions.enter(role="node")
        other = sessions.enter(device_id="another")
        assert sessions.connections.close_device(DEVICE_ID, ["node"], by_call="") == 1
        assert (closes(operator), closes(node)) == ([], [REMOVED])
        assert sessions.connections.close_device(DEVICE_ID, ["*"], by_call="") == 1
        assert (closes(operator), closes(other)) == ([REMOVED], [])

    def test_the_caller_is_marked_closing_and_gets_its_result(self, sessions: FakeSessions) -> None:
        own, same_device = sessions.enter(PAIRING), sessions.enter(PAIRING)
        own.calls.add("boot:1/1")
        assert sessions.connections.close_device(DEVICE_ID, ["*"], by_call="boot:1/1") == 2
        assert closes(same_device) == [REMOVED]
        assert (closes(own), own.closing) == ([], True)
        sessions.connections.broadcast(EVENTS)
        sessions.connections.respond(own, "boot:1/2", RESPONSE)
        assert texts(own) == [], "it is no longer served"
        sessions.connections.respond(own, "boot:1/1", RESPONSE)
        assert [message["id"] for message in texts(own)] == ["1"]
        assert closes(own) == [REMOVED]

    def test_another_call_of_the_same_connection_does_not_keep_it(
        self, sessions: FakeSessions
    ) -> None:
        own = sessions.enter(PAIRING)
        own.calls.add("boot:1/1")
        sessions.connections.close_device(DEVICE_ID, ["*"], by_call="boot:9/1")
        assert closes(own) == [REMOVED]
        sessions.connections.respond(own, "boot:1/1", RESPONSE)
        assert texts(own) == []

    def test_a_call_that_was_answered_already_does_not_keep_it(
        self, sessions: FakeSessions
    ) -> None:
        own = sessions.enter(PAIRING)
        sessions.connections.respond(own, "boot:1/1", RESPONSE)
        sessions.connections.close_device(DEVICE_ID, ["*"], by_call="boot:1/1")
        assert len(texts(own)) == 1
        assert closes(own) == [REMOVED]

    def test_a_client_that_ended_itself_and_is_ended_by_another_is_closed_at_once(
        self, sessions: FakeSessions
    ) -> None:
        own = sessions.enter(PAIRING)
        own.calls.add("boot:1/1")
        sessions.connections.close_device(DEVICE_ID, ["operator"], by_call="boot:1/1")
        sessions.connections.close_device(DEVICE_ID, ["*"], by_call="boot:9/1")
        assert closes(own) == [REMOVED]
        sessions.connections.respond(own, "boot:1/1", RESPONSE)
        assert (texts(own), closes(own)) == ([], [REMOVED])

    def test_nothing_is_sent_to_a_peer_that_is_gone(self, sessions: FakeSessions) -> None:
        own = sessions.enter(PAIRING)
        own.calls.add("boot:1/1")
        sessions.connections.close_device(DEVICE_ID, ["*"], by_call="boot:1/1")
        transport_of(own).closing = True
        sessions.connections.respond(own, "boot:1/1", RESPONSE)
        assert (texts(own), closes(own)) == ([], [])
        assert own.closed_with is not None


class Backend:
    """The other side of a relayed connection."""

    def __init__(self) -> None:
        self.is_full = False
        self.pings = 0

    def on_closing(self, code: int | None) -> None: ...

    def ping(self) -> None:
        self.pings += 1


def test_a_client_that_is_not_read_from_cannot_answer_pings(sessions: FakeSessions) -> None:
    connection, backend = sessions.enter(), Backend()
    connection.backend = backend

    def pass_pings(number: int) -> None:
        for _ in range(round(number * PING_SECONDS / SWEEP_SECONDS)):
            sessions.connections.sweep()

    backend.is_full = True
    pass_pings(3)
    assert backend.pings == 3, "the other side still has to answer"
    assert not transport_of(connection).is_closing()
    backend.is_full = False
    pass_pings(1)
    assert transport_of(connection).is_closing()
