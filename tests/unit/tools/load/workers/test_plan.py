"""The load of a plan is shared out whole over its workers."""

from __future__ import annotations

import pytest

from tools.load.plan import Phase, Plan, Scenario, holds, share, sources_for


@pytest.mark.parametrize(("whole", "parts"), [(0, 1), (7, 3), (64, 2), (2, 5)])
def test_shares_add_up_to_the_whole(whole: int, parts: int) -> None:
    shares = [share(whole, part, parts) for part in range(parts)]
    assert sum(shares) == whole
    assert max(shares) - min(shares) <= 1


def test_a_phase_is_shared_by_connections_and_by_rate() -> None:
    phase = Phase("x", 5, 65, rate=100.0, is_open=True)
    parts = [phase.share(part, 2) for part in range(2)]
    assert [(part.in_flight, part.rate, part.seconds) for part in parts] == [
        (33, 50, 5),
        (32, 50, 5),
    ]


def test_each_held_connection_belongs_to_one_worker() -> None:
    plan = Plan(scenario=Scenario.IDLE, connections=7, workers=3, pace=30.0)
    found = holds(plan)
    slots = [
        slot
        for item in found
        for slot in range(item.first_slot, item.first_slot + item.connections)
    ]
    assert slots == list(range(7))
    assert [item.pace for item in found] == [10, 10, 10]


def test_no_source_address_comes_near_a_gateways_limit() -> None:
    for in_flight in (1, 64, 128, 512):
        assert in_flight / sources_for(in_flight) <= 8
