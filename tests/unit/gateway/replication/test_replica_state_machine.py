"""Replica with events and answers lost, duplicated, late, and from forgotten histories.

A store commits changes, forgets some of them (a failover) and trims its log; the test draws whether
and in which order messages are delivered. The oracle sees the store; the replica does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.gateway.replication.replica import (
    SYNC_NOW,
    CloseDevice,
    CloseEverybody,
    Freshness,
    Replica,
)
from shared.rpc.messages import Changed, HeartbeatAnswer, Position
from tests.support.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.gateway.replication.replica import Effect

LEASE: Final = 10.0
ROUNDING: Final = 1e-6
"""The rounding error of sums of times, in seconds: far below any step of the clock."""
DEVICES: Final = ("d", "e", "f")
CHANGES_PER_ANSWER: Final = 2

devices = st.sampled_from(DEVICES)


@dataclass(frozen=True)
class Kept:
    """One change in the store's log, and when it was committed."""

    news: Changed
    at: float


@dataclass(frozen=True)
class Sent:
    """A heartbeat in transit: its content, and when it was sent."""

    heartbeat_id: int
    at: float
    applied: Position
    booted: bool


@dataclass(frozen=True)
class Inside:
    """An admitted connection: its device, and the change at which it was decided."""

    device_id: str
    decided_at: Position


class BeatMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.beat = Replica(self.clock, lease_seconds=LEASE)
        self.tags = count(1)
        self.log: list[Kept] = []
        self.trimmed = 0
        self.told: list[Changed] = []
        self.out: list[Sent] = []
        self.answers: list[tuple[Sent, HeartbeatAnswer, frozenset[Position]]] = []
        """Answers in transit, each with the store's whole history when it was given."""
        self.decided: list[tuple[Position, str]] = []
        self.inside: set[Inside] = set()
        self.known: dict[Position, tuple[Changed, int]] = {}
        self.steps = 0
        self.sent_at_step: dict[int, int] = {}
        self.answered_from = float("-inf")
        self.lease_end = float("-inf")

    # The store.

    @property
    def head(self) -> Position:
        return self.log[-1].news.change if self.log else Position()

    @property
    def history(self) -> frozenset[Position]:
        return frozenset(item.news.change for item in self.log)

    @rule(device_id=devices, closes=st.booleans())
    def commit(self, device_id: str, *, closes: bool) -> None:
        head = self.head
        news = Changed(
            Position(head.number + 1, f"t{next(self.tags)}"),
            head.tag,
            device_id,
            "removed",
            0,
            ["*"] if closes else [],
        )
        self.log.append(Kept(news, self.clock.monotonic()))
        self.told.append(news)

    @precondition(lambda self: self.log)
    @rule(lost=st.integers(1, 3))
    def fail_over(self, lost: int) -> None:
        """Lose the newest changes."""
        del self.log[-lost:]
        self.trimmed = min(self.trimmed, len(self.log))

    @rule()
    def trim(self) -> None:
        """Keep only the head's own entry in the log."""
        self.trimmed = max(0, len(self.log) - 1)

    def _answer(self, sent: Sent) -> HeartbeatAnswer:
        """Answer as heartbeat.lua does."""
        applied, held = sent.applied, self.log[self.trimmed :]
        resync = not sent.booted or applied.number > self.head.number
        if not resync and applied.number > 0:
            resync = applied not in [item.news.change for item in held]
        elif not resync and self.log:
            resync = self.trimmed > 0
        after = [item.news for item in held if item.news.change.number > applied.number]
        changes = [] if resync else after[:CHANGES_PER_ANSWER]
        return HeartbeatAnswer(sent.heartbeat_id, self.head, 0, sent.heartbeat_id, resync, changes)

    # What travels.

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.0, LEASE]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def send_beat(self) -> None:
        self.steps += 1
        applied, booted = self.beat.applied, self.beat.booted
        sent = Sent(self.beat.next_heartbeat(), self.clock.monotonic(), applied, booted)
        self.sent_at_step[sent.heartbeat_id] = self.steps
        self.out.append(sent)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def answer_beat(self, data: st.DataObject) -> None:
        """Let an approval answer; a retry may make another one answer the same heartbeat."""
        sent = data.draw(st.sampled_from(self.out[-4:]))
        self.answers.append((sent, self._answer(sent), self.history))

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def deliver_answer(self, data: st.DataObject) -> None:
        self._deliver(*data.draw(st.sampled_from(self.answers[-4:])))

    @precondition(lambda self: self.told)
    @rule(data=st.data())
    def deliver_news(self, data: st.DataObject) -> None:
        news = data.draw(st.sampled_from(self.told[-6:]))
        self.steps += 1
        before = self.beat.applied
        effects = self.beat.on_event(news)
        assert self.beat.applied in {before, news.change}
        if self.beat.applied != before:
            assert (news.change.number, news.previous_tag) == (before.number + 1, before.tag)
        if self.beat.booted and news.change.number > before.number:
            self.known.setdefault(news.change, (news, self.steps))
            self.known[news.change] = (news, self.steps)
            if self.beat.applied == before:
                assert SYNC_NOW in effects
        self._close(effects)

    def _deliver(self, sent: Sent, answer: HeartbeatAnswer, history: frozenset[Position]) -> None:
        self.steps += 1
        before, booted = self.beat.applied, self.beat.booted
        effects = self.beat.on_answer(answer)
        if not effects:
            assert self.beat.applied == before
            return
        self.answered_from = max(self.answered_from, sent.at)
        if answer.resync or not booted:
            assert self.beat.applied == answer.head
            assert booted == any(isinstance(effect, CloseEverybody) for effect in effects)
            self.known.clear()
        else:
            self._follow(before, answer.changes)
        if self.beat.applied == answer.head:
            gone = [
                change
                for change, (_, step) in self.known.items()
                if change not in history and step < self.sent_at_step[sent.heartbeat_id]
            ]
            for change in gone:
                del self.known[change]
        else:
            assert SYNC_NOW in effects
        self._close(effects)

    def _follow(self, at: Position, changes: Sequence[Changed]) -> None:
        """Check that applied followed the chain in the answer, as far as it connects."""
        for news in changes:
            if (news.change.number, news.previous_tag) == (at.number + 1, at.tag):
                at = news.change
                self.known[news.change] = (news, self.steps)
        assert self.beat.applied == at

    def _close(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, CloseEverybody):
                assert effect.until <= self.lease_end
                self.inside.clear()
            elif isinstance(effect, CloseDevice):
                closed = {
                    client for client in self.inside if client.device_id == effect.change.device_id
                }
                self.inside -= closed

    # Admission.

    @rule(device_id=devices)
    def decide(self, device_id: str) -> None:
        """Let an approval decide; the answer is delivered at any later time."""
        self.decided.append((self.head, device_id))

    @precondition(lambda self: self.decided)
    @rule(data=st.data())
    def deliver_decision(self, data: st.DataObject) -> None:
        decided_at, device_id = data.draw(st.sampled_from(self.decided[-4:]))
        if self.beat.freshness(decided_at, device_id) is not Freshness.CURRENT:
            return
        assert self.beat.leased
        newer = [
            news
            for news, _ in self.known.values()
            if news.device_id == device_id and news.change.number > decided_at.number
        ]
        assert not newer, "something newer is remembered"
        self._holds(Inside(device_id, decided_at))
        self.inside.add(Inside(device_id, decided_at))

    # What always holds.

    @invariant()
    def the_lease_runs_from_the_sending_of_an_answered_beat(self) -> None:
        end = self.beat.lease_left + self.clock.monotonic()
        assert end <= self.answered_from + LEASE + ROUNDING
        assert end >= self.lease_end - ROUNDING, "it never moves back"
        self.lease_end = end

    @invariant()
    def under_a_lease_nobody_is_inside_who_was_revoked_before_it(self) -> None:
        """Check that changes committed before the lease began have closed their connections."""
        if self.beat.leased:
            for client in self.inside:
                self._holds(client)

    def _holds(self, inside: Inside) -> None:
        began = self.lease_end - LEASE
        revoked = [
            item
            for item in self.log
            if item.news.closes
            and item.news.device_id == inside.device_id
            and item.news.change.number > inside.decided_at.number
            and item.at < began - ROUNDING
        ]
        assert not revoked, (inside, revoked)

    @invariant()
    def what_is_kept_is_bounded(self) -> None:
        assert len(self.beat._history) <= len(self.beat._memory)
        assert len(self.beat._touched) <= len(self.beat._memory)

    @rule()
    def settle(self) -> None:
        """After a few heartbeats that are answered at once the view equals the store's."""
        for _ in range(len(self.log) + 2):
            self.send_beat()
            sent = self.out[-1]
            self._deliver(sent, self._answer(sent), self.history)
            if self.beat.applied == self.head:
                break
        assert self.beat.applied == self.head
        assert self.beat.behind == 0
        assert abs(self.beat.lease_left - LEASE) < ROUNDING
        for device_id in DEVICES:
            assert self.beat.freshness(self.head, device_id) is Freshness.CURRENT
        for client in self.inside:
            assert not [
                item
                for item in self.log
                if item.news.closes
                and item.news.device_id == client.device_id
                and item.news.change.number > client.decided_at.number
            ]


BeatMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=50)
TestBeatMachine = BeatMachine.TestCase
