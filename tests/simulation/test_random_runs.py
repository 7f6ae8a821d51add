"""Random runs: the same seeds each time, or so many new ones as SIMULATION_RUNS says.

A failure names its seed, and tells its story.
"""

from __future__ import annotations

import os
import secrets
from typing import Final

import pytest

from tests.simulation.run import simulate

NEW_RUNS: Final = int(os.environ.get("SIMULATION_RUNS", "0"))
RUNS: Final = NEW_RUNS or 200
CHUNK: Final = 25


@pytest.mark.parametrize("chunk", range(RUNS // CHUNK))
def test_no_invariant_breaks(chunk: int) -> None:
    first = secrets.randbelow(10**12) if NEW_RUNS else 1 + chunk * CHUNK
    print(f"seeds {first} to {first + CHUNK - 1}")
    for seed in range(first, first + CHUNK):
        if simulate(seed).violation is not None:
            again = simulate(seed, told=True)
            pytest.fail(
                f"{again.story}\n{again.violation}\n"
                f"replay: python -m tests.simulation --seed {seed}",
                pytrace=False,
            )


@pytest.mark.parametrize("seed", [1, 5, 8])
def test_a_seed_tells_the_same_story_again(seed: int) -> None:
    stories = {simulate(seed, told=True).story for _ in range(2)}
    assert len(stories) == 1
    assert len(stories.pop().splitlines()) > 30
