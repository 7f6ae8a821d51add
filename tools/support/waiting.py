"""Waits for conditions instead of fixed times."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_SECONDS: Final = 20.0
POLL_SECONDS: Final = 0.02


def wait_until(
    condition: Callable[[], object], description: str, *, seconds: float = WAIT_SECONDS
) -> None:
    """Wait until the condition holds; fail with `description` if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {description}")
        time.sleep(POLL_SECONDS)


async def until(
    condition: Callable[[], object], description: str, *, seconds: float = WAIT_SECONDS
) -> None:
    """Like `wait_until`, without blocking the event loop."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {description}")
        await asyncio.sleep(POLL_SECONDS)
