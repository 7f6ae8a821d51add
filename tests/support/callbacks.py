"""Waits for what a function passes to its callback."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


async def result_of(ask: Callable[[list[Any], Callable[[Any], None]], None], *asked: Any) -> Any:
    """Call `ask` with a list and a callback; return what that gets, or raise it if it is an error.

    It must be called exactly once.
    """
    found: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def then(result: Any) -> None:
        if not found.cancelled():
            found.set_result(result)

    ask(list(asked), then)
    result = await found
    if isinstance(result, Exception):
        raise result
    return result
