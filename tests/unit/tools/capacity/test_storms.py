"""What is derived from measured storms, and how they are shown."""

from __future__ import annotations

import math
from dataclasses import replace

from tools.capacity.costs import MEASURED
from tools.capacity.sizing import SIZES, size
from tools.capacity.storms import MEASURED_STORMS, Storm, stretch_for
from tools.capacity.tables import sizes_table, storms_table

STORM = Storm(
    devices=10_000,
    gateways=2,
    approvals=2,
    rate=1_000.0,
    half_seconds=6.0,
    most_seconds=11.5,
    all_seconds=13.0,
    attempts=1.25,
    health_p99=0.06,
    gateway_mb=70.0,
    sessions=20,
    lost=1,
    clients_late=0.5,
    others_cores=0.03,
    clients_cores=0.71,
)


def test_a_storm_is_compared_with_the_time_its_admissions_take() -> None:
    assert STORM.work_seconds == 10.0
    assert STORM.ratio == 1.3
    assert STORM.stretch == 1.2


def test_the_worst_storm_up_to_the_next_larger_one_counts() -> None:
    small = replace(STORM, devices=1_000, all_seconds=1.5)
    slow = replace(STORM, devices=5_000, all_seconds=8.5)
    large = replace(STORM, devices=50_000, all_seconds=201.0)
    storms = [large, STORM, slow, small]
    assert stretch_for(0.5, storms) == 0.5
    assert stretch_for(1.5, storms) == 1.5
    assert stretch_for(10.0, storms) == 1.5
    assert stretch_for(10.1, storms) == 4.0
    assert stretch_for(50.1, storms) is None, "no storm had as much work"


def test_nothing_is_derived_from_a_storm_that_did_not_end() -> None:
    endless = replace(STORM, all_seconds=None)
    assert (endless.ratio, endless.stretch) == (None, None)
    assert stretch_for(1.0, [endless]) is None
    assert stretch_for(1.0, []) is None
    (without,) = [line for line in sizes_table(MEASURED, []).splitlines() if "all back" in line]
    assert without.split() == ["all", "back", "after", "-", "-", "-"]


def test_the_table_shows_every_storm_and_how_busy_the_machine_was() -> None:
    failed = replace(STORM, devices=50_000, all_seconds=None, health_p99=math.inf, others_cores=0.4)
    head, first, second, predicted, busy = storms_table([STORM, failed], MEASURED).splitlines()
    shown = " ".join(first.split())
    assert shown == "10,000 2 1,000 10.0 s 6.0 s 11.5 s 13.0 s 1.30 1.25 0.06 70 MB 1 of 20 0.5 s"
    assert "not all" in second
    assert "failed" in second
    assert len({len(head), len(first), len(second)}) == 1
    assert "one core admits 1,7" in predicted
    assert busy == "Other programs used up to 0.40 cores."


def test_the_measured_storms_have_as_much_work_as_every_size() -> None:
    for devices in SIZES:
        assert stretch_for(size(devices, MEASURED).work_seconds, MEASURED_STORMS) is not None
