"""Replica, rule R6 (see docs/replication.md): how current an answer is."""

from __future__ import annotations

from services.gateway.replication.replica import REMEMBERED_CHANGES, Freshness
from tests.unit.gateway.replication.replica_case import Case, at, change


class TestR6:
    """An answer counts if nothing newer is known about the device, in one gap-free history."""

    def test_decided_at_what_is_applied(self, case: Case) -> None:
        assert case.standing(5) is Freshness.CURRENT

    def test_decided_before_a_change_of_another_device(self, case: Case) -> None:
        case.beat.on_event(change(6, "e"))
        case.beat.on_event(change(7, "e"))
        assert case.standing(6) is Freshness.CURRENT
        assert case.standing(5) is Freshness.CURRENT

    def test_decided_before_a_change_of_this_device(self, case: Case) -> None:
        case.beat.on_event(change(6))
        assert case.standing(5) is Freshness.STALE
        assert case.standing(6) is Freshness.CURRENT

    def test_an_answer_before_an_unapplied_change_is_stale(self, case: Case) -> None:
        case.beat.on_event(change(8))
        assert case.standing(5) is Freshness.STALE

    def test_an_answer_before_a_change_that_closes_nobody_is_stale(self, case: Case) -> None:
        case.beat.on_event(change(6, closes=()))
        assert case.standing(5) is Freshness.STALE

    def test_decided_at_what_is_not_applied_yet(self, case: Case) -> None:
        assert case.standing(6) is Freshness.AHEAD
        case.beat.on_event(change(6, "e"))
        assert case.standing(6) is Freshness.CURRENT

    def test_an_answer_of_another_history_is_stale(self, case: Case) -> None:
        case.beat.on_event(change(6, "e"))
        assert case.standing(6, history="b") is Freshness.STALE
        assert case.standing(5, history="b") is Freshness.STALE

    def test_once_another_history_has_touched_the_device(self, case: Case) -> None:
        """Its number is meaningless here: only a heartbeat shows which history is the store's."""
        case.beat.on_event(change(6, "e"))
        case.beat.on_event(change(7, "e"))
        out = case.beat.next_heartbeat()
        case.beat.on_event(change(6, history="b"))
        assert case.standing(7) is Freshness.STALE
        assert case.standing(7, "e") is Freshness.CURRENT
        case.answer(out, 7)
        assert case.standing(7) is Freshness.STALE
        case.exchange(7)
        assert case.standing(7) is Freshness.CURRENT

    def test_once_an_older_event_has_touched_the_device(self, case: Case) -> None:
        assert case.beat.on_event(change(3, history="b")) == []
        assert case.standing(5) is Freshness.STALE
        case.exchange(5)
        assert case.standing(5) is Freshness.CURRENT

    def test_decided_below_what_is_remembered(self, case: Case) -> None:
        assert case.standing(4) is Freshness.STALE

    def test_when_more_has_changed_than_is_remembered_the_floor_rises(self, case: Case) -> None:
        newest = 6 + REMEMBERED_CHANGES
        for number in range(6, newest + 1):
            case.beat.on_event(change(number, f"device {number}"))
        assert case.beat.applied == at(newest)
        assert case.standing(newest, "device 6") is Freshness.CURRENT
        assert case.standing(5, "device 6") is Freshness.STALE
        assert case.standing(5, "nobody") is Freshness.STALE
        assert case.standing(newest - 1, f"device {newest}") is Freshness.STALE
        assert case.standing(newest - REMEMBERED_CHANGES // 2, "nobody") is Freshness.CURRENT
        assert len(case.beat._memory) <= REMEMBERED_CHANGES
        assert len(case.beat._touched) <= REMEMBERED_CHANGES
        assert len(case.beat._history) <= REMEMBERED_CHANGES
