"""A burst may wait long; in an overload, or when clients give up, the queue is short."""

from __future__ import annotations

import pytest

from shared.server.upgrade_limit import (
    BURST_SECONDS,
    BURST_WAIT_SECONDS,
    CALM_SECONDS,
    GIVEN_UP_MAX,
    GIVEN_UP_PART,
    LASTING_WAIT_SECONDS,
    RATE_SECONDS,
    UPGRADES_FIRST,
    UPGRADES_MAX,
    UPGRADES_MIN,
    VIABLE_MIN_SECONDS,
    VIABLE_PART,
    WAIT_SECONDS,
    UpgradeLimit,
)

PER_SECOND = 400
LONG_SECONDS = 2.0


class Case:
    """A limit of a server that serves at a fixed rate."""

    def __init__(self) -> None:
        self.limit = UpgradeLimit()
        self.now = 50.0
        self.limit.first_waits(self.now)

    def serve(self, seconds: float, waited: float, per_second: float = PER_SECOND) -> int:
        """Serve upgrades that waited so long; return the limit afterwards."""
        until = self.now + seconds
        while self.now < until:
            self.now += 1 / per_second
            self.limit.served(waited, self.now)
        return self.size

    @property
    def size(self) -> int:
        return self.limit.size(self.now)


BURST = PER_SECOND * BURST_WAIT_SECONDS
LASTING = PER_SECOND * LASTING_WAIT_SECONDS


@pytest.fixture
def case() -> Case:
    return Case()


def test_the_limit_is_fixed_until_the_rate_is_known(case: Case) -> None:
    assert case.size == UPGRADES_FIRST
    assert case.serve(RATE_SECONDS / 2, LONG_SECONDS) == UPGRADES_FIRST


def test_a_burst_may_wait_for_as_long_as_its_clients_are_patient(case: Case) -> None:
    assert case.serve(1.0, LONG_SECONDS) == pytest.approx(BURST, rel=0.02)


def test_waits_that_stay_long_are_an_overload(case: Case) -> None:
    assert case.serve(BURST_SECONDS, LONG_SECONDS) == pytest.approx(BURST, rel=0.02)
    assert case.serve(0.1, LONG_SECONDS) == pytest.approx(LASTING, rel=0.02)


def test_short_waits_are_never_an_overload(case: Case) -> None:
    assert case.serve(3 * BURST_SECONDS, 0.01) == pytest.approx(BURST, rel=0.02)


def test_the_overload_goes_on_until_waits_are_short_for_some_time(case: Case) -> None:
    case.serve(BURST_SECONDS + 0.1, LONG_SECONDS)
    assert case.serve(CALM_SECONDS / 2, 0.01) == pytest.approx(LASTING, rel=0.02)
    assert case.serve(CALM_SECONDS / 2, LONG_SECONDS) == pytest.approx(LASTING, rel=0.02)
    assert case.serve(CALM_SECONDS + 0.1, 0.01) == pytest.approx(BURST, rel=0.02)


def test_a_burst_long_after_an_overload_is_a_burst(case: Case) -> None:
    case.serve(BURST_SECONDS + 0.1, LONG_SECONDS)
    case.now += CALM_SECONDS
    case.limit.first_waits(case.now)
    assert case.size == pytest.approx(BURST, rel=0.02)


def test_clients_that_give_up_shorten_the_queue_until_the_overload_is_over(case: Case) -> None:
    case.serve(1.0, LONG_SECONDS)
    for _ in range(int(GIVEN_UP_MAX)):
        case.limit.gave_up(LONG_SECONDS, waiting=0)
    assert case.size == pytest.approx(LASTING, rel=0.02)
    assert case.serve(1.0, LONG_SECONDS) == pytest.approx(LASTING, rel=0.02)
    assert case.serve(CALM_SECONDS + 0.1, 0.01) == pytest.approx(BURST, rel=0.02)


def test_clients_that_waited_nearly_until_others_gave_up_are_not_worth_serving(case: Case) -> None:
    case.serve(1.0, LONG_SECONDS)
    assert case.limit.wait_seconds == WAIT_SECONDS
    for _ in range(int(GIVEN_UP_MAX)):
        case.limit.gave_up(LONG_SECONDS, waiting=0)
    assert case.limit.wait_seconds == pytest.approx(VIABLE_PART * LONG_SECONDS)
    case.serve(CALM_SECONDS + 0.1, 0.01)
    assert case.limit.wait_seconds == WAIT_SECONDS


def test_a_few_that_give_up_among_many_that_are_served_change_nothing(case: Case) -> None:
    for _ in range(100):
        case.serve(1 / 4, LONG_SECONDS)
        case.limit.gave_up(LONG_SECONDS, waiting=0)
        case.limit.gave_up(LONG_SECONDS, waiting=0)
    assert case.limit.wait_seconds == WAIT_SECONDS


def test_the_few_sockets_of_one_address_do_not_shorten_the_queue_of_a_fleet(case: Case) -> None:
    fleet = 8 * round(GIVEN_UP_MAX / GIVEN_UP_PART)
    case.serve(1.0, LONG_SECONDS)
    for _ in range(7 * round(GIVEN_UP_MAX)):
        case.limit.gave_up(LONG_SECONDS, waiting=fleet)
    assert case.size == pytest.approx(BURST, rel=0.02)
    for _ in range(round(GIVEN_UP_MAX)):
        case.limit.gave_up(LONG_SECONDS, waiting=fleet)
    assert case.size == pytest.approx(LASTING, rel=0.02)


def test_waits_as_long_as_in_any_overload_are_worth_serving(case: Case) -> None:
    """Otherwise, clients that leave early would have all waiting upgrades turned away."""
    case.serve(1.0, LONG_SECONDS)
    for _ in range(int(GIVEN_UP_MAX)):
        case.limit.gave_up(LASTING_WAIT_SECONDS + 0.01, waiting=0)
    assert case.limit.wait_seconds == VIABLE_MIN_SECONDS > LASTING_WAIT_SECONDS


def test_upgrades_that_are_turned_away_do_not_raise_the_limit(case: Case) -> None:
    limit = case.serve(1.0, LONG_SECONDS)
    for _ in range(PER_SECOND):
        case.now += 1 / PER_SECOND
        for overdue in (False, True, True, True):
            case.limit.served(LONG_SECONDS, case.now, overdue=overdue)
    assert case.size == pytest.approx(limit, rel=0.02)


def test_clients_that_leave_at_once_do_not_count_as_giving_up(case: Case) -> None:
    case.serve(1.0, LONG_SECONDS)
    for _ in range(100):
        case.limit.gave_up(LASTING_WAIT_SECONDS / 2, waiting=0)
    assert case.size == pytest.approx(BURST, rel=0.02)


@pytest.mark.parametrize(("per_second", "expected"), [(5, UPGRADES_MIN), (9000, UPGRADES_MAX)])
def test_the_limit_has_bounds(case: Case, per_second: int, expected: int) -> None:
    assert case.serve(2.0, LONG_SECONDS, per_second) == expected
