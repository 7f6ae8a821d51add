"""Waiting for a condition, never for a length of time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_SECONDS: Final = 20.0
POLL_SECONDS: Final = 0.02


def wait_until(
    condition: Callable[[], object], what: str, *, seconds: float = WAIT_SECONDS
) -> None:
    """Return once the condition holds; fail, naming `what`, when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(POLL_SECONDS)


async def until(
    condition: Callable[[], object], what: str, *, seconds: float = WAIT_SECONDS
) -> None:
    """Like `wait_until`, while the event loop goes on."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        await asyncio.sleep(POLL_SECONDS)
