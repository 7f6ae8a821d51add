from __future__ import annotations

import pytest

from tools.load.plan import Bounds, Phase, Plan, Scenario, holds, ramp, share, sources_for


@pytest.mark.parametrize(("whole", "parts"), [(0, 1), (7, 3), (64, 2), (2, 5)])
def test_shares_make_up_the_whole(whole: int, parts: int) -> None:
    shares = [share(whole, part, parts) for part in range(parts)]
    assert sum(shares) == whole
    assert max(shares) - min(shares) <= 1


def test_a_phase_is_shared_out() -> None:
    phase = Phase("x", 5, 65, rate=100.0, is_open=True)
    parts = [phase.share(part, 2) for part in range(2)]
    assert [(one.in_flight, one.rate, one.seconds) for one in parts] == [(33, 50, 5), (32, 50, 5)]


def test_what_is_held_has_slots_of_its_own() -> None:
    plan = Plan(scenario=Scenario.IDLE, connections=7, workers=3, pace=30.0)
    found = holds(plan)
    slots = [
        slot for one in found for slot in range(one.first_slot, one.first_slot + one.connections)
    ]
    assert slots == list(range(7))
    assert [one.pace for one in found] == [10, 10, 10]


class TestRamps:
    def test_rise_to_the_last_rate(self) -> None:
        assert [one.rate for one in ramp(100, 350, 100, 5, 9)] == [100, 200, 300, 350]

    def test_fall(self) -> None:
        assert [one.rate for one in ramp(300, 100, 100, 5, 9)] == [300, 200, 100]

    def test_may_be_level(self) -> None:
        assert [one.rate for one in ramp(100, 100, 50, 5, 9)] == [100]


def test_no_source_address_comes_near_a_gateways_limit() -> None:
    for in_flight in (1, 64, 128, 512):
        assert in_flight / sources_for(in_flight) <= 8
    assert sources_for(1) == 16


class TestBounds:
    def test_what_is_within_is_fine(self) -> None:
        plan = Plan(scenario=Scenario.OPEN, phases=(Phase("open", 10, 9, rate=20.0, is_open=True),))
        assert Bounds().problems(plan) == []

    def test_each_is_named_with_the_way_to_raise_it(self) -> None:
        plan = Plan(
            scenario=Scenario.OPEN,
            phases=(Phase("open", 100, 9, rate=1000.0, is_open=True),),
            connections=5000,
        )
        problems = " ".join(Bounds().problems(plan))
        for option in ("--allow-rate", "--allow-seconds", "--allow-connections"):
            assert option in problems
