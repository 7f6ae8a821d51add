"""What Heartbeat sends, and to whom, when it carries out the replica's effects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from services.gateway.approval.heartbeat import Heartbeat
from services.gateway.metrics import Metrics
from services.gateway.replication.presence import Presence
from services.gateway.replication.recent_refusals import RecentRefusals
from services.gateway.replication.replica import Replica
from shared.rpc.messages import BeatAnswer, Changed, Position
from tests.unit.gateway.fake_connections import DEVICE_ID, FakeSessions, closes, texts

if TYPE_CHECKING:
    from services.gateway.replication.replica import Effect

LEASE_SECONDS = 10
PAIRING = "operator.pairing"
HEAD = Position(1, "t1")


def change(number: int, kind: str, *, closing: bool = False) -> Changed:
    """Return a change that follows the one before it."""
    return Changed(
        change=Position(number, f"t{number}"),
        previous_tag=f"t{number - 1}",
        device_id=DEVICE_ID if closing else "another",
        kind=kind,
        at_ms=0,
        closes=["*"] if closing else [],
    )


class HeartbeatCase:
    """A Heartbeat with a lease, over connections without sockets; nothing is sent to approval."""

    def __init__(self) -> None:
        self.sessions = FakeSessions()
        self.beat = Replica(self.sessions.clock, lease_seconds=LEASE_SECONDS)
        self.beater = Heartbeat(
            replica=self.beat,
            presence=Presence(),
            refusals=RecentRefusals(),
            requester=cast("Any", None),
            connections=self.sessions.connections,
            metrics=Metrics(),
            clock=self.sessions.clock,
            beat_seconds=1,
            on_presence=lambda _version: None,
        )
        self.sessions.leased = lambda: self.beat.leased
        self.answered(HEAD, resync=True)

    def answered(self, head: Position, *changes: Changed, resync: bool = False) -> list[Effect]:
        """Send a heartbeat that is answered at once."""
        beat_id = self.beat.next_heartbeat()
        answer = BeatAnswer(beat_id, head, 0, 0, resync=resync, changes=list(changes))
        return self.beat.on_answer(answer)


@pytest.fixture
async def case() -> HeartbeatCase:
    return HeartbeatCase()


async def test_clients_with_the_pairing_scope_get_changes(case: HeartbeatCase) -> None:
    one = case.sessions.enter(PAIRING)
    case.beater.on_event(change(2, "renamed"))
    assert [said["event"] for said in texts(one)] == ["device.pair.changed"]


async def test_after_the_lease_nothing_is_sent(case: HeartbeatCase) -> None:
    """A process that was stopped handles missed events before its timers."""
    one = case.sessions.enter(PAIRING)
    case.sessions.clock.advance(LEASE_SECONDS + 1)
    case.beater.on_event(change(2, "renamed"))
    case.beater.on_event(change(3, "removed", closing=True))
    assert texts(one) == []
    assert closes(one) == [(1013, "approval unavailable")]


async def test_a_removed_device_gets_no_earlier_event_of_the_same_answer(
    case: HeartbeatCase,
) -> None:
    one, other = case.sessions.enter(PAIRING), case.sessions.enter(PAIRING, device_id="other")
    caught_up = case.answered(
        Position(3, "t3"), change(2, "renamed"), change(3, "removed", closing=True)
    )
    case.beater._carry_out(caught_up)
    assert (texts(one), closes(one)) == ([], [(4001, "device removed")])
    assert [said["event"] for said in texts(other)] == ["device.pair.changed"]
