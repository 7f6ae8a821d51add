"""Presence in heartbeats converges, whatever is lost, duplicated or reordered."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.gateway.replication.presence import REPORTED_LIMIT_HEARTBEATS, Presence
from shared.rpc.reports import Present

PART = 2
DEVICE = "d" * 64
Beat = tuple[int, int, list[Present], list[int]]


def connection(number: int) -> Present:
    return Present(number, DEVICE, "operator", 1_700_000_000_000)


@dataclass
class Held:
    """Approval's state for one gateway, as heartbeat.lua writes it."""

    at: int = 0
    numbers: set[int] = field(default_factory=set)

    def take(self, beat: Beat) -> int:
        """Apply a heartbeat; returns the stored heartbeat."""
        heartbeat_id, builds_on, joined, left = beat
        if heartbeat_id > self.at and builds_on in {0, self.at}:
            if builds_on == 0:
                self.numbers.clear()
            self.numbers |= {item.number for item in joined}
            self.numbers -= set(left)
            self.at = heartbeat_id
        return self.at


class Gateway:
    """A gateway whose heartbeats the test delivers."""

    def __init__(self, part: int = PART) -> None:
        self.presence = Presence(joined_per_beat=part, left_per_beat=part)
        self.here: set[int] = set()
        self._numbers = 0
        self._beats = 0

    def join(self, count: int = 1) -> None:
        for _ in range(count):
            self._numbers += 1
            self.here.add(self._numbers)
            self.presence.add(connection(self._numbers))

    def leave(self, number: int) -> None:
        self.here.discard(number)
        self.presence.remove(number)

    def beat(self) -> Beat:
        self._beats += 1
        return (self._beats, *self.presence.delta(self._beats))

    def exchange(self, held: Held) -> Beat:
        """Send a heartbeat that arrives and is answered."""
        beat = self.beat()
        self.presence.acknowledge(beat[0], held.take(beat))
        return beat


class Meeting(RuleBasedStateMachine):
    """A gateway, two Redis servers of which the second is demoted, and an unreliable network."""

    def __init__(self) -> None:
        super().__init__()
        self.gateway = Gateway()
        self.held = [Held(), Held()]
        self.beats: list[Beat] = []
        self.answers: list[tuple[int, int]] = []

    @rule(count=st.integers(1, 2 * PART + 1))
    def join(self, count: int) -> None:
        self.gateway.join(count)

    @precondition(lambda self: self.gateway.here)
    @rule(data=st.data())
    def leave(self, data: Any) -> None:
        self.gateway.leave(data.draw(st.sampled_from(sorted(self.gateway.here))))

    @rule()
    def beat(self) -> None:
        self.beats.append(self.gateway.beat())

    @precondition(lambda self: self.beats)
    @rule(data=st.data(), again=st.booleans(), where=st.integers(0, 1))
    def a_beat_arrives(self, data: Any, *, again: bool, where: int) -> None:
        place = data.draw(st.integers(0, len(self.beats) - 1))
        beat = self.beats[place] if again else self.beats.pop(place)
        self.answers.append((beat[0], self.held[where].take(beat)))

    @precondition(lambda self: self.answers)
    @rule(data=st.data(), again=st.booleans())
    def an_answer_arrives(self, data: Any, *, again: bool) -> None:
        place = data.draw(st.integers(0, len(self.answers) - 1))
        answer = self.answers[place] if again else self.answers.pop(place)
        self.gateway.presence.acknowledge(*answer)

    @rule(where=st.integers(0, 1))
    def one_exchange(self, where: int) -> None:
        self.gateway.exchange(self.held[where])

    @rule(where=st.integers(0, 1))
    def it_expires(self, where: int) -> None:
        self.held[where] = Held()

    @rule(where=st.integers(0, 1))
    def one_follows_the_other(self, where: int) -> None:
        self.held[where] = copy.deepcopy(self.held[1 - where])

    @rule()
    def they_meet(self) -> None:
        """One exchange finds the other's position; then one for each part, and at least one.

        A gateway that restarts without connections still has to report that.
        """
        held = self.held[0]
        self.gateway.exchange(held)
        presence = self.gateway.presence
        parts = ceil(max(len(presence._joining), len(presence._leaving)) / PART)
        for _ in range(max(1, parts)):
            self.gateway.exchange(held)
        assert held.numbers == self.gateway.here
        assert not self.gateway.presence.behind

    @invariant()
    def what_it_takes_for_held_is_held(self) -> None:
        presence = self.gateway.presence
        believed = self.gateway.here - presence._joining.keys() | presence._leaving
        for held in self.held:
            if presence._builds_on == held.at:
                assert held.numbers == believed

    @invariant()
    def it_knows_who_is_here(self) -> None:
        assert len(self.gateway.presence) == len(self.gateway.here)


TestMeeting = Meeting.TestCase
TestMeeting.settings = settings(max_examples=200, stateful_step_count=50)


class TestOneHeartbeat:
    def test_a_heartbeat_reports_only_changes(self) -> None:
        gateway, held = Gateway(part=3), Held()
        gateway.join(3)
        assert gateway.exchange(held)[1:] == (0, [connection(n) for n in (1, 2, 3)], [])
        gateway.join()
        gateway.leave(2)
        assert gateway.exchange(held)[1:] == (1, [connection(4)], [2])
        assert gateway.exchange(held)[1:] == (2, [], [])
        assert held.numbers == {1, 3, 4}

    def test_short_sessions_in_between_are_not_sent(self) -> None:
        gateway, held = Gateway(), Held()
        gateway.join()
        gateway.leave(1)
        gateway.leave(1)
        assert gateway.exchange(held)[2:] == ([], [])

    def test_a_disconnect_during_a_heartbeat_is_reported_with_the_next(self) -> None:
        gateway, held = Gateway(), Held()
        gateway.join()
        beat = gateway.beat()
        gateway.leave(1)
        gateway.presence.acknowledge(beat[0], held.take(beat))
        assert held.numbers == {1}
        assert gateway.exchange(held)[3] == [1]
        assert held.numbers == set()

    def test_changes_are_reported_until_a_heartbeat_is_answered(self) -> None:
        gateway, held = Gateway(), Held()
        gateway.join()
        lost = gateway.beat()
        assert gateway.exchange(held)[1:] == lost[1:]

    def test_a_long_presence_is_sent_in_parts(self) -> None:
        gateway, held = Gateway(part=3), Held()
        gateway.join(7)
        received = []
        while gateway.presence.behind:
            received.append(len(gateway.exchange(held)[2]))
        received.append(len(gateway.exchange(held)[2]))
        assert received == [3, 3, 1]
        assert held.numbers == gateway.here

    def test_everything_is_reported_anew_once_approval_has_lost_it(self) -> None:
        gateway, held = Gateway(part=3), Held()
        gateway.join(2)
        gateway.exchange(held)
        gateway.exchange(held)
        vanished = Held()
        assert gateway.exchange(vanished)[1] == 2
        assert vanished.numbers == set()
        assert gateway.exchange(vanished)[1] == 0
        assert vanished.numbers == gateway.here

    def test_a_late_answer_to_a_part_that_was_wiped_out_does_not_count(self) -> None:
        """A heartbeat that builds on one history does not belong to another."""
        gateway, held = Gateway(part=1), Held()
        gateway.join(1)
        gateway.exchange(held)
        gateway.join(2)
        late = gateway.beat()
        gateway.presence.acknowledge(late[0] - 1, 0)  # another Redis holds nothing
        fresh = Held()
        anew = gateway.beat()
        fresh.take(anew)
        gateway.presence.acknowledge(*(late[0], held.take(late)))
        for _ in range(5):
            gateway.exchange(fresh)
        assert fresh.numbers == gateway.here

    def test_what_is_never_answered_is_not_remembered_for_ever(self) -> None:
        gateway = Gateway()
        for _ in range(3 * REPORTED_LIMIT_HEARTBEATS):
            gateway.join()
            gateway.beat()
        assert len(gateway.presence._reported) == REPORTED_LIMIT_HEARTBEATS
