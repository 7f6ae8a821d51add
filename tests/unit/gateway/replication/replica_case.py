"""A Replica with its own clock, and changes of named histories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.gateway.replication.replica import Freshness, Replica
from shared.rpc.messages import Changed, HeartbeatAnswer, Position
from tests.support.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Sequence

LEASE = 10.0


def tag(number: int, history: str = "a") -> str:
    """Return the tag of a change; the first one precedes all histories."""
    return f"{history}{number}" if number else ""


def at(number: int, history: str = "a") -> Position:
    """Return a position in a history."""
    return Position(number, tag(number, history))


def change(
    number: int, device_id: str = "d", closes: Sequence[str] = ("*",), history: str = "a"
) -> Changed:
    """Return a change that follows its predecessor in the same history."""
    return Changed(
        change=at(number, history),
        previous_tag=tag(number - 1, history),
        device_id=device_id,
        kind="removed",
        at_ms=0,
        closes=list(closes),
    )


class Case:
    """A Replica with its own clock, which knows history up to a number and holds a lease."""

    def __init__(self, applied: int = 5) -> None:
        self.clock = FakeClock()
        self.beat = Replica(self.clock, lease_seconds=LEASE)
        self.answer(self.beat.next_heartbeat(), applied)

    def answer(
        self,
        heartbeat_id: int,
        head: int,
        *changes: Changed,
        history: str = "a",
        resync: bool = False,
    ) -> list[object]:
        """Pass in the answer to a heartbeat."""
        answer = HeartbeatAnswer(
            heartbeat_id, at(head, history), 0, heartbeat_id, resync, list(changes)
        )
        return list(self.beat.on_answer(answer))

    def exchange(self, head: int, *changes: Changed, resync: bool = False) -> list[object]:
        """Send a heartbeat and answer it at once."""
        return self.answer(self.beat.next_heartbeat(), head, *changes, resync=resync)

    def standing(self, number: int, device_id: str = "d", history: str = "a") -> Freshness:
        """Return an answer's freshness."""
        return self.beat.freshness(at(number, history), device_id)
