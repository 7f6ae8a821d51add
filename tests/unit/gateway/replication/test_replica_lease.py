"""Replica, rule by rule (see docs/replication.md): how long its lease lasts."""

from __future__ import annotations

from services.gateway.replication.replica import (
    CLOSING_SECONDS,
    PROGRESSED,
    SYNC_NOW,
    UNANSWERED_HEARTBEATS_LIMIT,
    AnnounceChange,
    Freshness,
    Replica,
)
from shared.rpc.messages import HeartbeatAnswer, Position
from tests.support.clock import FakeClock
from tests.unit.gateway.replication.replica_case import LEASE, Case, at, change


class TestStart:
    def test_nobody_is_served_before_the_first_answer(self) -> None:
        beat = Replica(FakeClock(), lease_seconds=LEASE)
        assert not beat.leased
        assert beat.freshness(at(0), "d") is Freshness.NO_LEASE
        assert beat.on_event(change(1)) == []
        assert beat.applied == Position()

    def test_the_first_answer_tells_where_history_stands_and_closes_nobody(self) -> None:
        case = Case(applied=0)
        assert case.beat.booted
        assert case.beat.leased
        assert case.beat.applied == at(0)
        assert case.standing(0) is Freshness.CURRENT

    def test_earlier_heartbeats_close_nobody(self) -> None:
        beat = Replica(FakeClock(), lease_seconds=LEASE)
        first, second = beat.next_heartbeat(), beat.next_heartbeat()
        assert beat.on_answer(HeartbeatAnswer(first, at(7), 0, first, resync=True)) == [PROGRESSED]
        assert beat.on_answer(HeartbeatAnswer(second, at(7), 0, second, resync=True)) == []
        assert beat.leased

    def test_it_takes_over_whatever_the_store_says(self) -> None:
        beat = Replica(FakeClock(), lease_seconds=LEASE)
        answer = HeartbeatAnswer(beat.next_heartbeat(), at(70), 0, 0, resync=True)
        assert beat.on_answer(answer) == [PROGRESSED]
        assert beat.applied == at(70)


class TestR1:
    """The lease runs from the sending of the answered heartbeat, and never moves back."""

    def test_the_lease_starts_when_the_heartbeat_is_sent(self, case: Case) -> None:
        heartbeat_id = case.beat.next_heartbeat()
        case.clock.advance(3)
        case.answer(heartbeat_id, 5)
        assert case.beat.lease_left == LEASE - 3

    def test_a_late_answer_is_not_credited_to_a_newer_heartbeat(self, case: Case) -> None:
        first = case.beat.next_heartbeat()
        case.clock.advance(4)
        second = case.beat.next_heartbeat()
        case.answer(first, 5)
        assert case.beat.lease_left == LEASE - 4
        case.answer(second, 5)
        assert case.beat.lease_left == LEASE

    def test_an_answer_older_than_the_newest_answered_heartbeat_is_dropped(
        self, case: Case
    ) -> None:
        first = case.beat.next_heartbeat()
        case.clock.advance(1)
        second = case.beat.next_heartbeat()
        assert case.answer(second, 5) == [PROGRESSED]
        assert case.answer(first, 6, change(6)) == []
        assert case.beat.applied == at(5)
        assert case.beat.lease_left == LEASE

    def test_an_answer_counts_once(self, case: Case) -> None:
        heartbeat_id = case.beat.next_heartbeat()
        assert case.answer(heartbeat_id, 5) == [PROGRESSED]
        assert case.answer(heartbeat_id, 6, change(6)) == []
        assert case.beat.applied == at(5)

    def test_an_answer_to_a_heartbeat_never_sent_is_dropped(self, case: Case) -> None:
        assert case.answer(99, 6, change(6)) == []
        assert case.answer(0, 6, change(6)) == []

    def test_unanswered_heartbeats_are_bounded(self, case: Case) -> None:
        first = case.beat.next_heartbeat()
        ids = [case.beat.next_heartbeat() for _ in range(UNANSWERED_HEARTBEATS_LIMIT)]
        assert case.answer(first, 5) == []
        assert case.answer(ids[0], 5) == [PROGRESSED]

    def test_the_lease_ends_without_an_answer(self, case: Case) -> None:
        case.clock.advance(LEASE - CLOSING_SECONDS - 0.001)
        case.beat.next_heartbeat()
        assert case.beat.leased
        case.clock.advance(0.001)
        assert not case.beat.leased

    def test_nobody_is_admitted_for_the_next_sweep_to_close(self, case: Case) -> None:
        """Approval may answer again when the lease has almost ended."""
        case.clock.advance(LEASE - CLOSING_SECONDS)
        heartbeat_id = case.beat.next_heartbeat()
        assert case.beat.lease_left == CLOSING_SECONDS
        assert case.standing(5) is Freshness.NO_LEASE
        case.answer(heartbeat_id, 5)
        assert case.standing(5) is Freshness.CURRENT


class TestR4:
    """An answer renews the lease only if applied then equals its head."""

    def test_an_answer_with_a_part_does_not_renew_it(self, case: Case) -> None:
        case.clock.advance(2)
        part = [change(6, closes=()), change(7, closes=())]
        assert case.exchange(8, *part) == [*map(AnnounceChange, part), PROGRESSED, SYNC_NOW]
        assert case.beat.applied == at(7)
        assert case.beat.behind == 1
        assert case.beat.lease_left == LEASE - 2

    def test_an_answer_with_the_rest_renews_it(self, case: Case) -> None:
        case.clock.advance(2)
        case.exchange(8, change(6), change(7))
        rest = change(8, closes=())
        assert case.exchange(8, rest) == [AnnounceChange(rest), PROGRESSED]
        assert case.beat.behind == 0
        assert case.beat.lease_left == LEASE

    def test_a_head_behind_later_events_does_not(self, case: Case) -> None:
        heartbeat_id = case.beat.next_heartbeat()
        case.clock.advance(1)
        case.beat.on_event(change(6, closes=()))
        assert case.answer(heartbeat_id, 5) == [PROGRESSED, SYNC_NOW]
        assert case.beat.applied == at(6)
        assert case.beat.lease_left == LEASE - 1

    def test_changes_that_are_known_by_then_are_passed_over(self, case: Case) -> None:
        heartbeat_id = case.beat.next_heartbeat()
        case.beat.on_event(change(6, closes=()))
        assert case.answer(heartbeat_id, 6, change(6)) == [PROGRESSED]
        assert case.beat.applied == at(6)


class TestR7:
    """Lease and freshness are computed from the clock; no flag and no timer is trusted."""

    def test_a_process_that_was_stopped_wakes_without_a_lease(self, case: Case) -> None:
        case.clock.advance(LEASE)
        assert not case.beat.leased
        assert case.standing(5) is Freshness.NO_LEASE

    def test_an_answer_to_an_earlier_heartbeat_does_not_restore_it(self, case: Case) -> None:
        heartbeat_id = case.beat.next_heartbeat()
        case.clock.advance(LEASE + 1)
        case.answer(heartbeat_id, 5)
        assert not case.beat.leased
        case.exchange(5)
        assert case.beat.leased
