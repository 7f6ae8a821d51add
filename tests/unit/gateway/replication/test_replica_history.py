"""Replica, rule by rule (see docs/replication.md): which changes advance it and take effect."""

from __future__ import annotations

import pytest

from services.gateway.replication.replica import (
    PROGRESSED,
    SYNC_NOW,
    AnnounceChange,
    CloseDevice,
    CloseEverybody,
    Freshness,
)
from shared.rpc.messages import Position
from tests.unit.gateway.replication.replica_case import LEASE, Case, at, change


class TestR5:
    """A change moves applied only if its predecessor's tag is the applied tag."""

    def test_the_next_one_moves_it_and_takes_effect(self, case: Case) -> None:
        news = change(6)
        assert case.beat.on_event(news) == [CloseDevice(news), AnnounceChange(news), PROGRESSED]
        assert case.beat.applied == at(6)

    def test_one_ahead_takes_effect_at_once_and_asks_for_what_is_between(self, case: Case) -> None:
        news = change(8)
        assert case.beat.on_event(news) == [CloseDevice(news), SYNC_NOW]
        assert case.beat.applied == at(5)
        assert case.beat.behind == 3

    def test_what_took_effect_ahead_of_time_does_not_take_effect_again(self, case: Case) -> None:
        between, ahead = change(6, closes=()), change(7, "e")
        assert case.beat.on_event(ahead) == [CloseDevice(ahead), SYNC_NOW]
        assert case.exchange(7, between, ahead) == [
            AnnounceChange(between),
            AnnounceChange(ahead),
            PROGRESSED,
        ]
        assert case.beat.applied == at(7)

    def test_the_next_number_of_another_history_does_not_move_it(self, case: Case) -> None:
        news = change(6, history="b")
        assert case.beat.on_event(news) == [CloseDevice(news), SYNC_NOW]
        assert case.beat.applied == at(5)
        real = change(6)
        assert case.beat.on_event(real) == [CloseDevice(real), AnnounceChange(real), PROGRESSED]

    def test_a_repeated_event_does_nothing(self, case: Case) -> None:
        case.beat.on_event(change(6))
        assert case.beat.on_event(change(6)) == []
        assert case.beat.on_event(change(5)) == []
        assert case.beat.on_event(change(2)) == []

    def test_a_known_number_of_another_history_takes_effect_and_asks(self, case: Case) -> None:
        case.beat.on_event(change(6))
        news = change(6, "e", history="b")
        assert case.beat.on_event(news) == [CloseDevice(news), SYNC_NOW]
        assert case.beat.applied == at(6)

    def test_changes_in_an_answer_must_follow_the_applied_tag_as_well(self, case: Case) -> None:
        heartbeat_id = case.beat.next_heartbeat()
        effects = case.answer(heartbeat_id, 7, change(6, history="b"), change(7, history="b"))
        assert effects == [PROGRESSED, SYNC_NOW]
        assert case.beat.applied == at(5)


class TestApplied:
    """A call counts as applied once its change is applied, in the change's own history."""

    def test_changes_brought_by_events_count_as_applied(self, case: Case) -> None:
        case.beat.on_event(change(6))
        assert case.beat.has_applied(at(5))
        assert case.beat.has_applied(at(6))

    def test_known_but_unapplied_changes_do_not_count(self, case: Case) -> None:
        case.beat.on_event(change(7))
        assert not case.beat.has_applied(at(6))
        assert not case.beat.has_applied(at(7))

    def test_the_same_number_in_another_history_is_not_applied(self, case: Case) -> None:
        case.beat.on_event(change(6))
        assert not case.beat.has_applied(at(6, "b"))

    def test_what_lies_before_all_that_is_known(self, case: Case) -> None:
        case.exchange(9, resync=True)
        assert case.beat.has_applied(at(9))
        assert case.beat.has_applied(at(7))
        assert case.beat.has_applied(Position())


class TestR8:
    """After a lost history, the store's head is adopted and every connection is closed."""

    def test_everybody_is_closed_within_the_lease_they_had(self, case: Case) -> None:
        leased_until = case.clock.monotonic() + LEASE
        case.clock.advance(4)
        assert case.exchange(2, resync=True) == [CloseEverybody(leased_until), PROGRESSED]
        assert case.beat.applied == at(2)

    def test_new_clients_may_be_admitted_under_the_new_lease(self, case: Case) -> None:
        case.clock.advance(4)
        case.exchange(2, resync=True)
        assert case.beat.lease_left == LEASE
        assert case.standing(2) is Freshness.CURRENT

    def test_answers_from_before_are_requested_again(self, case: Case) -> None:
        case.beat.on_event(change(6, "e"))
        case.exchange(6, resync=True)
        assert case.standing(5) is Freshness.STALE
        case.answer(case.beat.next_heartbeat(), 0, resync=True)
        assert case.standing(6) is Freshness.AHEAD
        assert case.standing(0) is Freshness.CURRENT

    def test_what_was_remembered_does_not_keep_devices_out(self, case: Case) -> None:
        """After FLUSHALL numbers restart: what was known of lost changes is meaningless."""
        case.beat.on_event(change(6))
        case.beat.on_event(change(9))
        case.answer(case.beat.next_heartbeat(), 0, resync=True)
        assert case.standing(0) is Freshness.CURRENT

    def test_events_received_after_the_heartbeat_was_sent_are_kept(self, case: Case) -> None:
        heartbeat_id = case.beat.next_heartbeat()
        case.beat.on_event(change(3, history="b"))
        case.answer(heartbeat_id, 2, history="b", resync=True)
        assert case.standing(2, history="b") is Freshness.STALE
        case.answer(case.beat.next_heartbeat(), 2, history="b")
        assert case.standing(2, history="b") is Freshness.CURRENT
        heartbeat_id = case.beat.next_heartbeat()
        case.beat.on_event(change(9, history="c"))
        case.answer(heartbeat_id, 8, history="c", resync=True)
        assert case.standing(8, history="c") is Freshness.STALE

    def test_heartbeats_in_transit_close_nobody_a_second_time(self, case: Case) -> None:
        """They name the lost position, which does not concern clients admitted since."""
        first, second = case.beat.next_heartbeat(), case.beat.next_heartbeat()
        case.answer(first, 2, history="b", resync=True)
        assert case.answer(second, 3, history="b", resync=True) == []
        assert case.beat.applied == at(2, "b")
        assert case.exchange(2, resync=True) != []

    def test_the_next_change_follows_the_new_head(self, case: Case) -> None:
        case.answer(case.beat.next_heartbeat(), 2, history="b", resync=True)
        news = change(3, history="b")
        assert case.beat.on_event(news) == [CloseDevice(news), AnnounceChange(news), PROGRESSED]
        assert case.beat.applied == at(3, "b")


class TestR9:
    """A change either closes its device's connections in those roles, or does not concern them."""

    @pytest.mark.parametrize("closes", [("*",), ("operator",), ("node", "operator")])
    def test_a_change_that_closes_is_carried_out(self, case: Case, closes: tuple[str, ...]) -> None:
        news = change(6, closes=closes)
        assert case.beat.on_event(news) == [CloseDevice(news), AnnounceChange(news), PROGRESSED]

    def test_a_change_that_closes_nothing_is_only_announced(self, case: Case) -> None:
        news = change(6, closes=())
        assert case.beat.on_event(news) == [AnnounceChange(news), PROGRESSED]

    def test_lost_messages_are_recovered_by_the_heartbeat(self, case: Case) -> None:
        missed = [change(6, "d"), change(7, "e", closes=()), change(8, "f")]
        effects = case.exchange(8, *missed)
        assert effects == [
            *(CloseDevice(missed[0]), AnnounceChange(missed[0])),
            AnnounceChange(missed[1]),
            *(CloseDevice(missed[2]), AnnounceChange(missed[2])),
            PROGRESSED,
        ]


class TestR10:
    """An event above the head in the answer to a later heartbeat belongs to a forgotten history."""

    def test_an_event_above_the_head_is_dropped(self, case: Case) -> None:
        case.beat.on_event(change(9))
        assert case.standing(5) is Freshness.STALE
        case.exchange(5)
        assert case.standing(5) is Freshness.CURRENT
        assert case.beat.behind == 0

    def test_an_event_received_after_the_heartbeat_was_sent_is_kept(self, case: Case) -> None:
        heartbeat_id = case.beat.next_heartbeat()
        case.beat.on_event(change(9))
        case.answer(heartbeat_id, 5)
        assert case.standing(5) is Freshness.STALE

    def test_an_event_not_above_the_head_is_kept(self, case: Case) -> None:
        case.beat.on_event(change(7))
        case.exchange(7, change(6, "e"), change(7))
        assert case.standing(6) is Freshness.STALE
