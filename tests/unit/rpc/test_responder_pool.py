"""Which responder is asked next."""

from __future__ import annotations

from collections import Counter

from shared.rpc.responder_pool import (
    DOUBT_SECONDS,
    HEARD_SECONDS,
    RESPONDERS_LIMIT,
    UNREACHED_LIMIT,
    ResponderPool,
)
from tests.support.clock import FakeClock


def heard(*boot_ids: str) -> tuple[ResponderPool, FakeClock]:
    clock = FakeClock()
    responders = ResponderPool(clock)
    for boot_id in boot_ids:
        responders.seen(boot_id)
    return responders, clock


class TestTheLine:
    def test_no_responder_was_heard(self) -> None:
        responders, _ = heard()
        assert responders.choose() is None
        assert responders.live() == []

    def test_responders_take_turns(self) -> None:
        responders, _ = heard("a", "b", "c")
        assert [responders.choose() for _ in range(7)] == ["a", "b", "c", "a", "b", "c", "a"]

    def test_being_heard_again_does_not_change_whose_turn_it_is(self) -> None:
        responders, _ = heard("a", "b")
        assert responders.choose() == "a"
        responders.seen("a")
        responders.seen("b")
        assert responders.choose() == "b"

    def test_the_excluded_are_passed_over_and_keep_their_turn(self) -> None:
        responders, _ = heard("a", "b", "c")
        assert responders.choose({"a"}) == "b"
        assert responders.choose() == "a"
        assert responders.choose({"a", "b", "c"}) is None

    def test_live_lists_the_next_first(self) -> None:
        responders, _ = heard("a", "b")
        responders.choose()
        assert responders.live() == ["b", "a"]


class TestWhoIsLive:
    def test_not_heard_for_three_seconds_is_not_live(self) -> None:
        responders, clock = heard("a")
        clock.advance(HEARD_SECONDS)
        assert responders.choose() == "a"
        clock.advance(0.001)
        assert responders.choose() is None

    def test_an_answer_counts_as_a_sign_of_life(self) -> None:
        responders, clock = heard("a")
        clock.advance(2.0)
        responders.answered("a")
        clock.advance(2.0)
        assert responders.live() == ["a"]

    def test_a_responder_that_left_is_gone_until_it_is_seen_again(self) -> None:
        responders, _ = heard("a", "b")
        responders.gone("a")
        responders.answered("a")
        assert responders.live() == ["b"]
        responders.seen("a")
        assert responders.live() == ["b", "a"]

    def test_one_that_is_gone_is_expected_back_for_as_long_as_it_would_have_been_live(self) -> None:
        responders, clock = heard("a")
        assert not responders.expected()
        clock.advance(2.0)
        responders.gone("a")
        responders.gone("never heard")
        assert responders.expected()
        clock.advance(1.5)
        assert not responders.expected()
        responders.seen("a")
        responders.gone("a")
        responders.seen("a")
        assert not responders.expected()

    def test_the_wall_clock_means_nothing(self) -> None:
        responders, clock = heard("a")
        clock.step_wall(600)
        clock.step_wall(-1200)
        assert responders.choose() == "a"

    def test_the_line_is_bounded(self) -> None:
        responders, clock = heard(*(f"r{n}" for n in range(RESPONDERS_LIMIT + 50)))
        assert len(responders.live()) == RESPONDERS_LIMIT
        clock.advance(HEARD_SECONDS + 1)
        responders.seen("new")
        assert responders.live() == ["new"]


class TestTimedOut:
    def test_a_responder_that_timed_out_goes_last_until_it_answers(self) -> None:
        responders, _ = heard("a", "b", "c")
        responders.timed_out("a")
        responders.seen("a")
        assert Counter(responders.choose() for _ in range(6)) == {"b": 3, "c": 3}
        responders.answered("a")
        assert Counter(responders.choose() for _ in range(6)) == {"a": 2, "b": 2, "c": 2}

    def test_it_is_asked_when_there_is_no_other(self) -> None:
        responders, _ = heard("a", "b")
        responders.timed_out("a")
        assert responders.choose({"b"}) == "a"
        responders.gone("b")
        assert responders.choose() == "a"

    def test_responders_take_turns_if_all_timed_out(self) -> None:
        responders, _ = heard("a", "b")
        responders.timed_out("a")
        responders.timed_out("b")
        assert [responders.choose() for _ in range(4)] == ["a", "b", "a", "b"]

    def test_after_a_while_it_is_tried_again_although_it_could_not_answer(self) -> None:
        responders, clock = heard("a", "b")
        responders.timed_out("a")
        for _ in range(int(DOUBT_SECONDS)):
            assert responders.choose() == "b"
            clock.advance(1.0)
            responders.seen("a")
            responders.seen("b")
        assert {responders.choose(), responders.choose()} == {"a", "b"}

    def test_nothing_is_remembered_of_a_responder_that_is_not_live(self) -> None:
        responders, _ = heard()
        responders.timed_out("a")
        responders.seen("a")
        responders.seen("b")
        assert responders.choose() == "a"


class TestAstray:
    """A responder that is heard but not reached uses another Redis server."""

    def setup_method(self) -> None:
        self.clock = FakeClock()
        self.times = 0
        self.responders = ResponderPool(self.clock, self.count)

    def count(self) -> None:
        self.times += 1

    def heard_but_not_reached(self, times: int) -> None:
        for _ in range(times):
            self.responders.seen("a")
            self.responders.no_responders("a")

    def test_a_responder_is_reported_each_time_the_limit_is_reached(self) -> None:
        self.heard_but_not_reached(UNREACHED_LIMIT - 1)
        assert self.times == 0
        self.heard_but_not_reached(1)
        assert self.times == 1
        self.heard_but_not_reached(UNREACHED_LIMIT)
        assert self.times == 2

    def test_it_is_selected_again_only_after_a_sign_of_life(self) -> None:
        self.heard_but_not_reached(1)
        assert self.responders.choose() is None
        self.responders.seen("a")
        assert self.responders.choose() == "a"

    def test_one_that_ended_is_not_counted_as_alive(self) -> None:
        self.responders.seen("a")
        for _ in range(10 * UNREACHED_LIMIT):
            self.responders.no_responders("a")
        assert self.times == 0

    def test_one_that_says_it_leaves_is_not_astray(self) -> None:
        for _ in range(10 * UNREACHED_LIMIT):
            self.responders.seen("a")
            self.responders.gone("a")
        assert self.times == 0

    def test_an_answer_restarts_the_count(self) -> None:
        for _ in range(10):
            self.heard_but_not_reached(UNREACHED_LIMIT - 1)
            self.responders.answered("a")
        assert self.times == 0

    def test_silence_restarts_the_count(self) -> None:
        for _ in range(10):
            self.heard_but_not_reached(UNREACHED_LIMIT - 1)
            self.clock.advance(HEARD_SECONDS + 1)
            assert self.responders.live() == []
        assert self.times == 0
