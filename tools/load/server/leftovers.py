"""What a load test leaves in the servers: the minimum seen before and after it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

STEADY_OBSERVATIONS: Final = 10
"""What has not decreased for this many looks, about a second, is regarded as permanent."""
WAIT_SECONDS: Final = 10.0
"""How long the resources of a load test may take to disappear."""
OBSERVE_SECONDS: Final = 0.1
"""Interval between looks."""

Counts = dict[tuple[str, str], int]
"""Numbers by role and kind: descriptors or tasks."""


class Leftover(msgspec.Struct, rename="camel", frozen=True):
    """What a role had before and after the load; `after` is None if not visible.

    `left` is the increase, 0 for a decrease: a decrease does not compensate for an increase
    elsewhere.
    """

    role: str
    what: str
    before: int
    after: int | None
    left: int


async def before_load(look: Callable[[], Awaitable[Counts]]) -> Counts:
    """Return the permanent resources: the minimum, once it no longer decreases.

    Call it after a warm-up of the same kind. The first connections open resources that are kept
    (Redis connections, for example), which are no leak. Temporary resources must not count either:
    otherwise a leak of the same size would go unnoticed.
    """
    minimum = await look()
    end = time.monotonic() + WAIT_SECONDS
    steady = 0
    while steady < STEADY_OBSERVATIONS and time.monotonic() < end:
        await asyncio.sleep(OBSERVE_SECONDS)
        last, minimum = minimum, _least(minimum, await look())
        steady = steady + 1 if minimum == last else 0
    return minimum


async def after_load(look: Callable[[], Awaitable[Counts]], before: Counts) -> list[Leftover]:
    """Return what is left: the minimum seen until nothing is left, or time is up."""
    minimum: Counts = {}
    end = time.monotonic() + WAIT_SECONDS
    while True:
        minimum = _least(minimum, await look())
        found = [_remainder(*key, count, minimum.get(key)) for key, count in before.items()]
        gone = all(item.after is not None and not item.left for item in found)
        if gone or time.monotonic() >= end:
            return found
        await asyncio.sleep(OBSERVE_SECONDS)


def _remainder(role: str, description: str, before: int, after: int | None) -> Leftover:
    return Leftover(role, description, before, after, left=max(0, (after or 0) - before))


def _least(counts: Counts, other: Counts) -> Counts:
    """Return the minimum of each; what only one has is taken from it."""
    return {key: min(counts.get(key, count), count) for key, count in (counts | other).items()}
