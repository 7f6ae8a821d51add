"""The window of open questions follows what approval can answer."""

from __future__ import annotations

import pytest

from shared.rpc.question_window import (
    GROWTH_QUESTIONS,
    SLOW_SECONDS,
    WINDOW_MAX_QUESTIONS,
    WINDOW_MIN_QUESTIONS,
    QuestionWindow,
)
from shared.rpc.requester import QUESTIONS_IN_FLIGHT_LIMIT

QUICK_SECONDS = 0.01


class Case:
    """A window, and an approval that answers everything after a time."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.window = QuestionWindow(
            lambda: self.events.append("hold"), lambda: self.events.append("release")
        )
        self.now = 100.0

    def round(self, seconds: float, *, answered: bool = True) -> None:
        """Ask as many questions as fit, and have all of them answered after this time."""
        asked_at = self.now
        count = self.window.size
        for _ in range(count):
            self.window.asked()
        self.now += seconds
        for _ in range(count):
            self.window.ended(asked_at, self.now, answered=answered)
        assert self.window.open == 0


@pytest.fixture
def case() -> Case:
    return Case()


def test_calls_find_room_beside_a_full_window() -> None:
    assert WINDOW_MAX_QUESTIONS <= QUESTIONS_IN_FLIGHT_LIMIT * 3 / 4


def test_it_holds_when_full_and_releases_with_the_next_answer(case: Case) -> None:
    for _ in range(case.window.size):
        assert not case.events
        case.window.asked()
    case.window.asked()
    assert case.events == ["hold"]
    for _ in range(2):
        case.window.ended(case.now, case.now, answered=True)
    assert case.events == ["hold", "release"]


@pytest.mark.parametrize(("seconds", "answered"), [(2 * SLOW_SECONDS, True), (0.0, False)])
def test_slow_and_missing_answers_halve_it_once_per_round(
    case: Case, seconds: float, *, answered: bool
) -> None:
    case.now += 1
    case.round(seconds, answered=answered)
    assert case.window.size == WINDOW_MAX_QUESTIONS // 2
    case.now += 1
    case.round(seconds, answered=answered)
    assert case.window.size == WINDOW_MAX_QUESTIONS // 4


def test_it_never_closes_and_recovers_within_a_second(case: Case) -> None:
    for _ in range(20):
        case.round(1.0, answered=False)
    assert case.window.size == WINDOW_MIN_QUESTIONS
    began = case.now
    while case.window.size < WINDOW_MAX_QUESTIONS:
        case.round(QUICK_SECONDS)
    assert case.now - began < 1.0


def test_it_settles_at_what_a_slow_approval_can_answer(case: Case) -> None:
    """An approval that answers 400 a second is asked as much as it answers within the limit."""
    sizes = []
    for _ in range(100):
        case.round(case.window.size / 400)
        sizes.append(case.window.size)
    settled = sizes[20:]
    assert min(settled) >= 400 * SLOW_SECONDS / 2 - 1
    assert max(settled) <= 400 * SLOW_SECONDS + GROWTH_QUESTIONS


def test_slow_answers_do_not_shrink_it_while_others_are_quick(case: Case) -> None:
    """An attacker whose questions wait for a write must not hold up devices that are only read."""
    for _ in range(100):
        asked_at = case.now
        case.window.asked()
        case.window.asked()
        case.now += SLOW_SECONDS / 2
        case.window.ended(case.now - QUICK_SECONDS, case.now, answered=True)
        case.now += SLOW_SECONDS
        case.window.ended(asked_at, case.now, answered=True)
    assert case.window.size == WINDOW_MAX_QUESTIONS


def test_it_shrinks_to_half_of_what_was_open(case: Case) -> None:
    for _ in range(100):
        case.window.asked()
    case.window.ended(case.now, case.now + 1, answered=True)
    assert case.window.size == 50


def test_quick_answers_do_not_open_it_further_than_its_limit(case: Case) -> None:
    case.round(QUICK_SECONDS)
    assert case.window.size == WINDOW_MAX_QUESTIONS
