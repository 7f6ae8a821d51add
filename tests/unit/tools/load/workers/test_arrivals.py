"""The intended starts of an open loop."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from tools.load.plan import Phase
from tools.load.workers.arrivals import arrivals


def starts(phase: Phase, *, index: int = 0, worker: int = 0, workers: int = 1) -> list[float]:
    share = phase.share(worker, workers)
    return list(arrivals(share, index=index, worker=worker, workers=workers))


def poisson(seconds: float = 5.0, seed: int = 0) -> Phase:
    return Phase("open", seconds, 4096, rate=1000, is_open=True, poisson=True, seed=seed)


def test_gaps_of_a_poisson_process_are_exponential() -> None:
    at = starts(poisson(seconds=100))
    assert len(at) == pytest.approx(100_000, abs=4 * math.sqrt(100_000))
    gaps = [later - earlier for earlier, later in pairwise(at)]
    for multiple in (0.5, 1, 2, 4):
        longer = sum(gap > multiple / 1000 for gap in gaps) / len(gaps)
        assert longer == pytest.approx(math.exp(-multiple), abs=0.01)


def test_the_same_seed_gives_the_same_starts() -> None:
    assert starts(poisson(seed=7)) == starts(poisson(seed=7))


def test_other_seeds_phases_and_workers_start_at_other_moments() -> None:
    first = starts(poisson())
    assert starts(poisson(seed=1)) != first
    assert starts(poisson(), index=1) != first
    shares = [starts(poisson(), worker=worker, workers=2) for worker in range(2)]
    assert shares[0] != shares[1]
    assert len(shares[0]) + len(shares[1]) == pytest.approx(5000, abs=4 * math.sqrt(5000))


def test_workers_of_an_even_pace_take_turns() -> None:
    phase = Phase("open", 1, 4096, rate=100, is_open=True)
    together = sorted(at for worker in range(2) for at in starts(phase, worker=worker, workers=2))
    assert together == pytest.approx([number / 100 for number in range(100)])


def test_a_start_due_at_the_end_belongs_to_the_next_phase() -> None:
    assert len(starts(Phase("open", 0.3, 9, rate=10, is_open=True))) == 3


def test_a_loop_without_a_rate_is_not_open() -> None:
    with pytest.raises(ValueError, match="needs a rate"):
        starts(Phase("open", 1, 9, is_open=True))
