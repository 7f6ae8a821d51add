"""The judge of the attacks can fail: every broken promise is a violation."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Final

import pytest

from tools.drills.attacks.judge import (
    BACK_RATIO,
    CALL_SECONDS,
    GOODPUT_RATIO,
    HEALTH_SECONDS,
    MEMORY_BYTES,
    RECOVERY_SECONDS,
    judge,
    p99,
)
from tools.drills.attacks.observed import Observed, Sample
from tools.drills.attacks.storm_result import StormResult
from tools.drills.attacks.table import HEADINGS, cells, table

if TYPE_CHECKING:
    from collections.abc import Callable

BEGAN: Final = 100.0
OVER: Final = 120.0
UNTIL: Final = 135.0
STORM: Final = StormResult(
    closed_rate=100.0, offered=60_000, completed=6000, goodput=95.0, offered_rate=1000.0
)
DROPPED: Final = StormResult(
    closed_rate=100.0, offered=1000, completed=1000, back_seconds=12.0, dropped=True
)


def samples(seconds: float, count: int = 200, why: str = "") -> list[Sample]:
    """Return requests spread over the attack, all of this duration."""
    step = (OVER - BEGAN) / count
    return [
        Sample(BEGAN + number * step, BEGAN + number * step + seconds, why)
        for number in range(count)
    ]


def good() -> Observed:
    """Return an attack during which every promise held."""
    return Observed(
        attack="tiny frames",
        began=BEGAN,
        over=OVER,
        until=UNTIL,
        health=samples(0.01),
        calls=samples(0.02),
        newcomers=samples(0.1, 100),
        sessions=20,
    )


def test_an_attack_that_harms_nobody_is_held() -> None:
    verdict = judge(good())
    assert verdict.violations == ()
    assert (verdict.newcomers, verdict.served, verdict.recovery) == (100, 100, 0.0)


def _lose_a_session(seen: Observed) -> None:
    seen.lost = 1


def _slow_health(seen: Observed) -> None:
    seen.health[:3] = [
        replace(item, ended=item.began + HEALTH_SECONDS + 0.1) for item in seen.health[:3]
    ]


def _failed_health(seen: Observed) -> None:
    seen.health[:3] = samples(0.01, 3, why="503")


def _no_health(seen: Observed) -> None:
    seen.health.clear()


def _slow_calls(seen: Observed) -> None:
    seen.calls[:3] = [
        replace(item, ended=item.began + CALL_SECONDS + 0.1) for item in seen.calls[:3]
    ]


def _gateway_memory(seen: Observed) -> None:
    seen.gateway_bytes = MEMORY_BYTES + 1


def _approval_memory(seen: Observed) -> None:
    seen.approval_bytes = MEMORY_BYTES + 1


def _newcomers_refused(seen: Observed) -> None:
    seen.newcomers[:6] = samples(0.1, 6, why="unavailable")


def _no_newcomers(seen: Observed) -> None:
    seen.newcomers.clear()


def _late_recovery(seen: Observed) -> None:
    seen.calls.append(Sample(OVER + 1, OVER + 9))
    seen.calls.append(Sample(OVER + RECOVERY_SECONDS + 0.1, OVER + 6, "no answer"))


def _late_recovery_of_two_kinds(seen: Observed) -> None:
    """Let a newcomer fail early and a health check late: each has its own deadline."""
    seen.newcomers.append(Sample(OVER + 1, OVER + 11, "not served"))
    seen.health.append(Sample(OVER + 5.1, OVER + 6.1))


def _never_recovered(seen: Observed) -> None:
    seen.health.append(Sample(UNTIL - 1, UNTIL - 0.1, "cut off"))


def _broken_off(seen: Observed) -> None:
    seen.broken = "the attacker ended"


@pytest.mark.parametrize(
    ("spoil", "violation"),
    [
        (_lose_a_session, "1 of 20 sessions were lost"),
        (_slow_health, "the p99 of health checks was 0.60 s, not 0.5 s"),
        (_failed_health, "the p99 of health checks was no answer, not 0.5 s"),
        (_no_health, "no health checks were measured"),
        (_slow_calls, "the p99 of calls of sessions was 1.10 s, not 1 s"),
        (_gateway_memory, "a gateway used 256 MB more than before"),
        (_approval_memory, "approval used 256 MB more than before"),
        (_newcomers_refused, "94 of 100 newcomers were served"),
        (_no_newcomers, "0 of 0 newcomers were served"),
        (_late_recovery, "recovered after 5.1 s"),
        (_late_recovery_of_two_kinds, "recovered after 5.1 s"),
        (_never_recovered, "not recovered 15 s after the attack"),
        (_broken_off, "the attack was aborted: the attacker ended"),
    ],
)
def test_each_broken_promise_is_a_violation(
    spoil: Callable[[Observed], None], violation: str
) -> None:
    seen = good()
    spoil(seen)
    assert judge(seen).violations == (violation,)


@pytest.mark.parametrize(
    ("storm", "violations"),
    [
        (STORM, ()),
        (
            replace(STORM, goodput=100 * GOODPUT_RATIO - 1),
            ("goodput was 0.89 of the closed-loop rate",),
        ),
        (DROPPED, ()),
        (
            replace(DROPPED, back_seconds=10 * BACK_RATIO + 1),
            ("all devices were back after 1.40 times the work",),
        ),
        (replace(DROPPED, back_seconds=None, completed=999), ("999 of 1000 devices came back",)),
    ],
)
def test_a_storm_is_judged_by_what_it_completes(
    storm: StormResult, violations: tuple[str, ...]
) -> None:
    seen = good()
    seen.storm, seen.serves_newcomers = storm, False
    seen.newcomers.clear()
    assert judge(seen).violations == violations


def test_what_happened_before_and_after_an_attack_is_not_counted_in_it() -> None:
    seen = good()
    seen.health += [Sample(BEGAN - 1, BEGAN + 9, "before")] * 20
    seen.newcomers += [Sample(OVER + 1, OVER + 2, "after")] * 20
    verdict = judge(seen)
    assert verdict.health_p99 == pytest.approx(0.01)
    assert verdict.newcomers == 100
    assert verdict.recovery == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [([], None), ([1.0], 1.0), ([0.0] * 99 + [9.0], 0.0), ([0.0] * 98 + [9.0, inf], 9.0)],
)
def test_the_99th_percentile_is_found(seconds: list[float], expected: float | None) -> None:
    assert p99(seconds) == expected


def test_a_row_shows_the_figures() -> None:
    seen = good()
    seen.storm = STORM
    seen.newcomers[0] = replace(seen.newcomers[0], attempts=2)
    assert cells("storm", judge(seen)) == (
        *(
            "storm",
            "0.01",
            "0.02",
            "0 of 20",
            "0, 0",
            "100 % (99 %)",
            "0.0",
            "0.95 at 10.0 x",
            "yes",
        ),
    )


def test_a_table_has_a_cell_for_each_heading() -> None:
    seen = good()
    seen.storm = replace(DROPPED, back_seconds=None)
    lines = table([("dropped", judge(seen))]).splitlines()
    assert [len(line.strip("|").split("|")) for line in lines] == [len(HEADINGS)] * 3
    assert "not all" in lines[2]
