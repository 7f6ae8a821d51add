"""Handlers of questions as coroutines."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.rpc.responder import Handle, Question, Replies


def calling_back(handle: Callable[[list[Question]], Awaitable[Replies]]) -> Handle:
    """Return a handler that runs a coroutine, and calls back with what it returns or raises."""
    running: set[asyncio.Task[None]] = set()

    def run(questions: list[Question], then: Callable[[Replies | Exception], object]) -> None:
        async def answer() -> None:
            try:
                replies: Replies | Exception = await handle(questions)
            except Exception as error:  # noqa: BLE001 (passed on)
                replies = error
            then(replies)

        task = asyncio.ensure_future(answer())
        running.add(task)
        task.add_done_callback(running.discard)

    return run
