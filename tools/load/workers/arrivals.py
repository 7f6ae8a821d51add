"""The intended starts of an open loop. Pure: they do not depend on what the gateway answers."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.load.plan import Phase

ROUNDING: Final = 1e-6
"""In seconds: a start due at the very end belongs to the next phase."""


def arrivals(phase: Phase, *, index: int, worker: int, workers: int) -> Iterator[float]:
    """Yield the starts of a worker's share of a phase, in seconds from the phase's beginning.

    With `poisson`, the gaps are exponential: the same seed, phase and worker give the same starts.
    The shares of several workers together are such a process again, at the whole rate.
    """
    if phase.rate is None:
        raise ValueError("an open loop needs a rate")
    if phase.poisson:
        return _poisson(phase.rate, phase.seconds, seed=f"{phase.seed} {index} {worker}")
    # Workers take turns, so that together they keep an even pace.
    return _even(phase.rate, phase.seconds, first=worker / workers / phase.rate)


def _poisson(rate: float, seconds: float, *, seed: str) -> Iterator[float]:
    gap = random.Random(seed).expovariate
    at = gap(rate)
    while at < seconds:
        yield at
        at += gap(rate)


def _even(rate: float, seconds: float, *, first: float) -> Iterator[float]:
    at, number = first, 0
    while at < seconds - ROUNDING:
        yield at
        number += 1
        at = first + number / rate
