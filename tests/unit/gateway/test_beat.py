"""The pure beat, rule by rule (docs/architecture.md names them), each on a plain example."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.gateway.beat import (
    BEAT_NOW,
    BEATS_OUT_LIMIT,
    MOVED,
    REMEMBERED_CHANGES,
    Beat,
    CloseDevice,
    CloseEverybody,
    Standing,
    Tell,
)
from shared.messages import BeatAnswer, Change, Changed
from tests.support.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Sequence

LEASE = 10.0


def tag(number: int, history: str = "a") -> str:
    """Return the tag of a change; the first is before all histories."""
    return f"{history}{number}" if number else ""


def at(number: int, history: str = "a") -> Change:
    """Return a point in a history."""
    return Change(number, tag(number, history))


def change(
    number: int, device_id: str = "d", closes: Sequence[str] = ("*",), history: str = "a"
) -> Changed:
    """Return a change that follows the one before it in the same history."""
    return Changed(
        change=at(number, history),
        previous_tag=tag(number - 1, history),
        device_id=device_id,
        kind="removed",
        at_ms=0,
        closes=list(closes),
    )


class Case:
    """A beat in a time of its own, which knows history up to a number and holds a lease."""

    def __init__(self, applied: int = 5) -> None:
        self.clock = FakeClock()
        self.beat = Beat(self.clock, lease_seconds=LEASE)
        self.answer(self.beat.next_beat(), applied)

    def answer(
        self,
        beat_id: int,
        head: int,
        *changes: Changed,
        history: str = "a",
        resync: bool = False,
    ) -> list[object]:
        """Hand in the answer to a beat."""
        answer = BeatAnswer(beat_id, at(head, history), 0, beat_id, resync, list(changes))
        return list(self.beat.on_answer(answer))

    def exchange(self, head: int, *changes: Changed, resync: bool = False) -> list[object]:
        """Beat and be answered in one moment."""
        return self.answer(self.beat.next_beat(), head, *changes, resync=resync)

    def standing(self, number: int, device_id: str = "d", history: str = "a") -> Standing:
        """Say what an answer is worth."""
        return self.beat.standing(at(number, history), device_id)


@pytest.fixture
def case() -> Case:
    return Case()


class TestStart:
    def test_nobody_is_served_before_the_first_answer(self) -> None:
        beat = Beat(FakeClock(), lease_seconds=LEASE)
        assert not beat.leased
        assert beat.standing(at(0), "d") is Standing.NO_LEASE
        assert beat.on_news(change(1)) == []
        assert beat.applied == Change()

    def test_the_first_answer_tells_where_history_stands_and_closes_nobody(self) -> None:
        case = Case(applied=0)
        assert case.beat.booted
        assert case.beat.leased
        assert case.beat.applied == at(0)
        assert case.standing(0) is Standing.COUNTS

    def test_beats_that_went_before_it_close_nobody(self) -> None:
        beat = Beat(FakeClock(), lease_seconds=LEASE)
        first, second = beat.next_beat(), beat.next_beat()
        assert beat.on_answer(BeatAnswer(first, at(7), 0, first, resync=True)) == [MOVED]
        assert beat.on_answer(BeatAnswer(second, at(7), 0, second, resync=True)) == []
        assert beat.leased

    def test_it_takes_over_whatever_the_store_says(self) -> None:
        beat = Beat(FakeClock(), lease_seconds=LEASE)
        answer = BeatAnswer(beat.next_beat(), at(70), 0, 0, resync=True)
        assert beat.on_answer(answer) == [MOVED]
        assert beat.applied == at(70)


class TestR1:
    """The lease runs from the sending of the beat that was answered, and never moves back."""

    def test_from_the_sending_not_from_the_answer(self, case: Case) -> None:
        beat_id = case.beat.next_beat()
        case.clock.advance(3)
        case.answer(beat_id, 5)
        assert case.beat.lease_left == LEASE - 3

    def test_a_late_answer_is_not_credited_to_a_newer_beat(self, case: Case) -> None:
        first = case.beat.next_beat()
        case.clock.advance(4)
        second = case.beat.next_beat()
        case.answer(first, 5)
        assert case.beat.lease_left == LEASE - 4
        case.answer(second, 5)
        assert case.beat.lease_left == LEASE

    def test_an_answer_to_an_older_beat_than_the_newest_answered_is_dropped(
        self, case: Case
    ) -> None:
        first = case.beat.next_beat()
        case.clock.advance(1)
        second = case.beat.next_beat()
        assert case.answer(second, 5) == [MOVED]
        assert case.answer(first, 6, change(6)) == []
        assert case.beat.applied == at(5)
        assert case.beat.lease_left == LEASE

    def test_an_answer_counts_once(self, case: Case) -> None:
        beat_id = case.beat.next_beat()
        assert case.answer(beat_id, 5) == [MOVED]
        assert case.answer(beat_id, 6, change(6)) == []
        assert case.beat.applied == at(5)

    def test_an_answer_to_a_beat_that_never_went_is_dropped(self, case: Case) -> None:
        assert case.answer(99, 6, change(6)) == []
        assert case.answer(0, 6, change(6)) == []

    def test_unanswered_beats_are_not_kept_without_end(self, case: Case) -> None:
        first = case.beat.next_beat()
        ids = [case.beat.next_beat() for _ in range(BEATS_OUT_LIMIT)]
        assert case.answer(first, 5) == []
        assert case.answer(ids[0], 5) == [MOVED]

    def test_without_an_answer_it_ends(self, case: Case) -> None:
        case.clock.advance(LEASE - 0.001)
        case.beat.next_beat()
        assert case.beat.leased
        case.clock.advance(0.001)
        assert not case.beat.leased


class TestR4:
    """An answer renews the lease only if applied then equals its head."""

    def test_a_part_of_what_is_missing_does_not(self, case: Case) -> None:
        case.clock.advance(2)
        part = [change(6, closes=()), change(7, closes=())]
        assert case.exchange(8, *part) == [*map(Tell, part), MOVED, BEAT_NOW]
        assert case.beat.applied == at(7)
        assert case.beat.behind == 1
        assert case.beat.lease_left == LEASE - 2

    def test_the_rest_does(self, case: Case) -> None:
        case.clock.advance(2)
        case.exchange(8, change(6), change(7))
        rest = change(8, closes=())
        assert case.exchange(8, rest) == [Tell(rest), MOVED]
        assert case.beat.behind == 0
        assert case.beat.lease_left == LEASE

    def test_a_head_that_is_behind_what_was_told_since_does_not(self, case: Case) -> None:
        beat_id = case.beat.next_beat()
        case.clock.advance(1)
        case.beat.on_news(change(6, closes=()))
        assert case.answer(beat_id, 5) == [MOVED, BEAT_NOW]
        assert case.beat.applied == at(6)
        assert case.beat.lease_left == LEASE - 1

    def test_changes_that_are_known_by_then_are_passed_over(self, case: Case) -> None:
        beat_id = case.beat.next_beat()
        case.beat.on_news(change(6, closes=()))
        assert case.answer(beat_id, 6, change(6)) == [MOVED]
        assert case.beat.applied == at(6)


class TestR5:
    """A change moves applied only if its predecessor's tag is the applied tag."""

    def test_the_next_one_moves_it_and_takes_effect(self, case: Case) -> None:
        news = change(6)
        assert case.beat.on_news(news) == [CloseDevice(news), Tell(news), MOVED]
        assert case.beat.applied == at(6)

    def test_one_ahead_takes_effect_at_once_and_asks_for_what_is_between(self, case: Case) -> None:
        news = change(8)
        assert case.beat.on_news(news) == [CloseDevice(news), BEAT_NOW]
        assert case.beat.applied == at(5)
        assert case.beat.behind == 3

    def test_what_took_effect_ahead_of_time_does_not_take_effect_again(self, case: Case) -> None:
        between, ahead = change(6, closes=()), change(7, "e")
        assert case.beat.on_news(ahead) == [CloseDevice(ahead), BEAT_NOW]
        assert case.exchange(7, between, ahead) == [Tell(between), Tell(ahead), MOVED]
        assert case.beat.applied == at(7)

    def test_the_next_number_of_another_history_does_not_move_it(self, case: Case) -> None:
        news = change(6, history="b")
        assert case.beat.on_news(news) == [CloseDevice(news), BEAT_NOW]
        assert case.beat.applied == at(5)
        real = change(6)
        assert case.beat.on_news(real) == [CloseDevice(real), Tell(real), MOVED]

    def test_what_was_told_before_does_nothing(self, case: Case) -> None:
        case.beat.on_news(change(6))
        assert case.beat.on_news(change(6)) == []
        assert case.beat.on_news(change(5)) == []
        assert case.beat.on_news(change(2)) == []

    def test_a_known_number_of_another_history_takes_effect_and_asks(self, case: Case) -> None:
        case.beat.on_news(change(6))
        news = change(6, "e", history="b")
        assert case.beat.on_news(news) == [CloseDevice(news), BEAT_NOW]
        assert case.beat.applied == at(6)

    def test_in_an_answer_the_chain_is_held_to_as_well(self, case: Case) -> None:
        beat_id = case.beat.next_beat()
        effects = case.answer(beat_id, 7, change(6, history="b"), change(7, history="b"))
        assert effects == [MOVED, BEAT_NOW]
        assert case.beat.applied == at(5)


class TestApplied:
    """What a call did is applied once the change is, in the history that it belongs to."""

    def test_what_is_applied(self, case: Case) -> None:
        case.beat.on_news(change(6))
        assert case.beat.has_applied(at(5))
        assert case.beat.has_applied(at(6))

    def test_what_was_only_heard_of(self, case: Case) -> None:
        case.beat.on_news(change(7))
        assert not case.beat.has_applied(at(6))
        assert not case.beat.has_applied(at(7))

    def test_the_same_number_in_another_history(self, case: Case) -> None:
        case.beat.on_news(change(6))
        assert not case.beat.has_applied(at(6, "b"))

    def test_what_lies_before_all_that_is_known(self, case: Case) -> None:
        case.exchange(9, resync=True)
        assert case.beat.has_applied(at(9))
        assert case.beat.has_applied(at(7))
        assert case.beat.has_applied(Change())


class TestR6:
    """An answer counts where nothing newer is known of the device, in one gap-free history."""

    def test_decided_at_what_is_applied(self, case: Case) -> None:
        assert case.standing(5) is Standing.COUNTS

    def test_decided_before_a_change_of_another_device(self, case: Case) -> None:
        case.beat.on_news(change(6, "e"))
        case.beat.on_news(change(7, "e"))
        assert case.standing(6) is Standing.COUNTS
        assert case.standing(5) is Standing.COUNTS

    def test_decided_before_a_change_of_this_device(self, case: Case) -> None:
        case.beat.on_news(change(6))
        assert case.standing(5) is Standing.ASK_AGAIN
        assert case.standing(6) is Standing.COUNTS

    def test_also_before_one_that_is_only_heard_of(self, case: Case) -> None:
        case.beat.on_news(change(8))
        assert case.standing(5) is Standing.ASK_AGAIN

    def test_also_before_one_that_closes_nobody(self, case: Case) -> None:
        case.beat.on_news(change(6, closes=()))
        assert case.standing(5) is Standing.ASK_AGAIN

    def test_decided_at_what_is_not_applied_yet(self, case: Case) -> None:
        assert case.standing(6) is Standing.WAIT
        case.beat.on_news(change(6, "e"))
        assert case.standing(6) is Standing.COUNTS

    def test_decided_in_another_history(self, case: Case) -> None:
        case.beat.on_news(change(6, "e"))
        assert case.standing(6, history="b") is Standing.ASK_AGAIN
        assert case.standing(5, history="b") is Standing.ASK_AGAIN

    def test_once_another_history_has_touched_the_device(self, case: Case) -> None:
        """Its number says nothing here: only a beat tells which of the two is the store's."""
        case.beat.on_news(change(6, "e"))
        case.beat.on_news(change(7, "e"))
        out = case.beat.next_beat()
        case.beat.on_news(change(6, history="b"))
        assert case.standing(7) is Standing.ASK_AGAIN
        assert case.standing(7, "e") is Standing.COUNTS
        case.answer(out, 7)
        assert case.standing(7) is Standing.ASK_AGAIN
        case.exchange(7)
        assert case.standing(7) is Standing.COUNTS

    def test_once_news_from_below_what_is_known_has_touched_the_device(self, case: Case) -> None:
        assert case.beat.on_news(change(3, history="b")) == []
        assert case.standing(5) is Standing.ASK_AGAIN
        case.exchange(5)
        assert case.standing(5) is Standing.COUNTS

    def test_decided_below_what_is_remembered(self, case: Case) -> None:
        assert case.standing(4) is Standing.ASK_AGAIN

    def test_when_more_has_changed_than_is_remembered_the_floor_rises(self, case: Case) -> None:
        newest = 6 + REMEMBERED_CHANGES
        for number in range(6, newest + 1):
            case.beat.on_news(change(number, f"device {number}"))
        assert case.beat.applied == at(newest)
        assert case.standing(newest, "device 6") is Standing.COUNTS
        assert case.standing(5, "device 6") is Standing.ASK_AGAIN
        assert case.standing(5, "nobody") is Standing.ASK_AGAIN
        assert case.standing(newest - 1, f"device {newest}") is Standing.ASK_AGAIN
        assert case.standing(newest - REMEMBERED_CHANGES // 2, "nobody") is Standing.COUNTS
        assert len(case.beat._memory) <= REMEMBERED_CHANGES
        assert len(case.beat._touched) <= REMEMBERED_CHANGES
        assert len(case.beat._history) <= REMEMBERED_CHANGES


class TestR7:
    """Lease and standing are read off the clock; no flag and no timer is trusted."""

    def test_a_process_that_was_stopped_wakes_without_a_lease(self, case: Case) -> None:
        case.clock.advance(LEASE)
        assert not case.beat.leased
        assert case.standing(5) is Standing.NO_LEASE

    def test_an_answer_to_a_beat_from_before_does_not_give_it_back(self, case: Case) -> None:
        beat_id = case.beat.next_beat()
        case.clock.advance(LEASE + 1)
        case.answer(beat_id, 5)
        assert not case.beat.leased
        case.exchange(5)
        assert case.beat.leased


class TestR8:
    """History was lost: the store's head is taken over, and everybody is closed."""

    def test_everybody_is_closed_within_the_lease_they_had(self, case: Case) -> None:
        leased_until = case.clock.monotonic() + LEASE
        case.clock.advance(4)
        assert case.exchange(2, resync=True) == [CloseEverybody(leased_until), MOVED]
        assert case.beat.applied == at(2)

    def test_newcomers_may_be_let_in_under_the_new_lease(self, case: Case) -> None:
        case.clock.advance(4)
        case.exchange(2, resync=True)
        assert case.beat.lease_left == LEASE
        assert case.standing(2) is Standing.COUNTS

    def test_answers_from_before_are_asked_for_anew(self, case: Case) -> None:
        case.beat.on_news(change(6, "e"))
        case.exchange(6, resync=True)
        assert case.standing(5) is Standing.ASK_AGAIN
        case.answer(case.beat.next_beat(), 0, resync=True)
        assert case.standing(6) is Standing.WAIT
        assert case.standing(0) is Standing.COUNTS

    def test_what_was_remembered_does_not_keep_devices_out(self, case: Case) -> None:
        """After FLUSHALL numbers begin anew: what was known of lost changes says nothing."""
        case.beat.on_news(change(6))
        case.beat.on_news(change(9))
        case.answer(case.beat.next_beat(), 0, resync=True)
        assert case.standing(0) is Standing.COUNTS

    def test_what_was_heard_after_the_beat_went_is_kept(self, case: Case) -> None:
        beat_id = case.beat.next_beat()
        case.beat.on_news(change(3, history="b"))
        case.answer(beat_id, 2, history="b", resync=True)
        assert case.standing(2, history="b") is Standing.ASK_AGAIN
        case.answer(case.beat.next_beat(), 2, history="b")
        assert case.standing(2, history="b") is Standing.COUNTS
        beat_id = case.beat.next_beat()
        case.beat.on_news(change(9, history="c"))
        case.answer(beat_id, 8, history="c", resync=True)
        assert case.standing(8, history="c") is Standing.ASK_AGAIN

    def test_beats_that_were_out_close_nobody_a_second_time(self, case: Case) -> None:
        """They told of the place that was lost: whoever came in since has nothing to do with it."""
        first, second = case.beat.next_beat(), case.beat.next_beat()
        case.answer(first, 2, history="b", resync=True)
        assert case.answer(second, 3, history="b", resync=True) == []
        assert case.beat.applied == at(2, "b")
        assert case.exchange(2, resync=True) != []

    def test_the_next_change_follows_the_new_head(self, case: Case) -> None:
        case.answer(case.beat.next_beat(), 2, history="b", resync=True)
        news = change(3, history="b")
        assert case.beat.on_news(news) == [CloseDevice(news), Tell(news), MOVED]
        assert case.beat.applied == at(3, "b")


class TestR9:
    """A change either closes what its device has open in those roles, or does not concern it."""

    @pytest.mark.parametrize("closes", [("*",), ("operator",), ("node", "operator")])
    def test_one_that_closes(self, case: Case, closes: tuple[str, ...]) -> None:
        news = change(6, closes=closes)
        assert case.beat.on_news(news) == [CloseDevice(news), Tell(news), MOVED]

    def test_one_that_closes_nothing(self, case: Case) -> None:
        news = change(6, closes=())
        assert case.beat.on_news(news) == [Tell(news), MOVED]

    def test_what_was_lost_on_the_way_is_made_up_by_the_beat(self, case: Case) -> None:
        missed = [change(6, "d"), change(7, "e", closes=()), change(8, "f")]
        effects = case.exchange(8, *missed)
        assert effects == [
            *(CloseDevice(missed[0]), Tell(missed[0])),
            Tell(missed[1]),
            *(CloseDevice(missed[2]), Tell(missed[2])),
            MOVED,
        ]


class TestR10:
    """News above the head of an answer to a beat that went after it is of a forgotten history."""

    def test_it_is_dropped(self, case: Case) -> None:
        case.beat.on_news(change(9))
        assert case.standing(5) is Standing.ASK_AGAIN
        case.exchange(5)
        assert case.standing(5) is Standing.COUNTS
        assert case.beat.behind == 0

    def test_unless_it_came_after_the_beat_went(self, case: Case) -> None:
        beat_id = case.beat.next_beat()
        case.beat.on_news(change(9))
        case.answer(beat_id, 5)
        assert case.standing(5) is Standing.ASK_AGAIN

    def test_unless_it_is_not_above_the_head(self, case: Case) -> None:
        case.beat.on_news(change(7))
        case.exchange(7, change(6, "e"), change(7))
        assert case.standing(6) is Standing.ASK_AGAIN
