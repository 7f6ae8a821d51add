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
from tests.unit.gateway.fake_connections import DEVICE_ID, Room, closes, texts

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


class Shell:
    """A Heartbeat with a lease, over connections without sockets; nothing is sent to approval."""

    def __init__(self) -> None:
        self.room = Room()
        self.beat = Replica(self.room.clock, lease_seconds=LEASE_SECONDS)
        self.beater = Heartbeat(
            replica=self.beat,
            presence=Presence(),
            refusals=RecentRefusals(),
            requester=cast("Any", None),
            connections=self.room.connections,
            metrics=Metrics(),
            clock=self.room.clock,
            beat_seconds=1,
            on_presence=lambda _version: None,
        )
        self.room.leased = lambda: self.beat.leased
        self.answered(HEAD, resync=True)

    def answered(self, head: Position, *changes: Changed, resync: bool = False) -> list[Effect]:
        """Send a heartbeat that is answered at once."""
        beat_id = self.beat.next_heartbeat()
        answer = BeatAnswer(beat_id, head, 0, 0, resync=resync, changes=list(changes))
        return self.beat.on_answer(answer)


@pytest.fixture
async def shell() -> Shell:
    return Shell()


async def test_who_holds_pairing_is_told_of_a_change(shell: Shell) -> None:
    one = shell.room.enter(PAIRING)
    shell.beater.on_event(change(2, "renamed"))
    assert [said["event"] for said in texts(one)] == ["device.pair.changed"]


async def test_after_the_lease_nobody_is_told_anything(shell: Shell) -> None:
    """A process that was stopped handles missed events before its timers."""
    one = shell.room.enter(PAIRING)
    shell.room.clock.advance(LEASE_SECONDS + 1)
    shell.beater.on_event(change(2, "renamed"))
    shell.beater.on_event(change(3, "removed", closing=True))
    assert texts(one) == []
    assert closes(one) == [(1013, "approval unavailable")]


async def test_who_was_removed_is_not_told_what_came_before_in_the_same_answer(
    shell: Shell,
) -> None:
    one, other = shell.room.enter(PAIRING), shell.room.enter(PAIRING, device_id="other")
    caught_up = shell.answered(
        Position(3, "t3"), change(2, "renamed"), change(3, "removed", closing=True)
    )
    shell.beater._carry_out(caught_up)
    assert (texts(one), closes(one)) == ([], [(4001, "device removed")])
    assert [said["event"] for said in texts(other)] == ["device.pair.changed"]
