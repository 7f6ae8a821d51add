"""What is left in the servers when a load is gone: the least that is seen before and after it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

STEADY_LOOKS: Final = 10
"""What became no less at so many looks, about a second, is taken to last."""
WAIT_SECONDS: Final = 10.0
"""How long what a load has opened may take to go."""
LOOK_SECONDS: Final = 0.1
"""From one look to the next."""

Counts = dict[tuple[str, str], int]
"""How many there are, by role and what: descriptors or tasks."""


class Remainder(msgspec.Struct, rename="camel", frozen=True):
    """What a role had before the load and after it; `after` is None where it could not be seen.

    `left` is how many more there are. Where there are fewer it is 0: that makes up for nothing else.
    """

    role: str
    what: str
    before: int
    after: int | None
    left: int


async def before_load(look: Callable[[], Awaitable[Counts]]) -> Counts:
    """Return what lasts without a load: the least that is seen, once it becomes no less.

    To be called when a warm-up of the same kind has come and gone. The first connections open what
    is then kept (connections to Redis, say), and that is no leak. What is only there at the moment
    does not count either: if it did, as much could leak unseen.
    """
    least = await look()
    end = time.monotonic() + WAIT_SECONDS
    steady = 0
    while steady < STEADY_LOOKS and time.monotonic() < end:
        await asyncio.sleep(LOOK_SECONDS)
        last, least = least, _least(least, await look())
        steady = steady + 1 if least == last else 0
    return least


async def after_load(look: Callable[[], Awaitable[Counts]], before: Counts) -> list[Remainder]:
    """Return what is left: the least that is seen until nothing is, or it has had its time."""
    least: Counts = {}
    end = time.monotonic() + WAIT_SECONDS
    while True:
        least = _least(least, await look())
        found = [_remainder(*key, count, least.get(key)) for key, count in before.items()]
        gone = all(one.after is not None and not one.left for one in found)
        if gone or time.monotonic() >= end:
            return found
        await asyncio.sleep(LOOK_SECONDS)


def _remainder(role: str, what: str, before: int, after: int | None) -> Remainder:
    return Remainder(role, what, before, after, left=max(0, (after or 0) - before))


def _least(one: Counts, other: Counts) -> Counts:
    """Return the lesser of each; what only one has is taken from it."""
    return {key: min(one.get(key, count), count) for key, count in (one | other).items()}
