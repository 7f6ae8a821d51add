"""Random runs: new seeds each time, and a few fixed ones. A failure prints its seed and story."""

from __future__ import annotations

import os
import random
import secrets
from typing import Final

import pytest

from tests.simulation.run import simulate, simulate_all

CHUNKS: Final = 40
RUNS_A_CHUNK: Final = 50
SEEDS_KEPT: Final = (1, 5, 8)


def first_seed(chunk: int) -> int:
    """Return the first seed of a chunk of runs."""
    origin = os.environ.get("SIMULATION_SEEDS_FROM")
    if origin is None:
        return secrets.randbelow(10**12)
    return random.Random(f"{origin} {chunk}").randrange(10**12)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_invariant_breaks(chunk: int) -> None:
    first = first_seed(chunk)
    for outcome in simulate_all(range(first, first + RUNS_A_CHUNK)):
        if outcome.violation is not None:
            received = simulate(outcome.seed, with_story=True)
            pytest.fail(
                f"{received.story}\n{outcome.violation}\n"
                f"replay: python -m tests.simulation --seed {outcome.seed}",
                pytrace=False,
            )


@pytest.mark.parametrize("seed", SEEDS_KEPT)
def test_a_seed_tells_the_same_story_again(seed: int) -> None:
    first, second = (simulate(seed, with_story=True) for _ in range(2))
    assert first.violation is None, f"{first.story}\n{first.violation}"
    assert first.story == second.story
    assert len(first.story.splitlines()) > 30
