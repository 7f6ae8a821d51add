"""Publishing on the bus for callers that wait for the number of subscribers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shared.bus.errors import Unavailable

if TYPE_CHECKING:
    from shared.bus.ports import Send


def published(send: Send, channel: str, data: bytes) -> asyncio.Future[int]:
    """Publish sealed data; the future yields the number of subscribers, or Unavailable."""
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def finish(result: int | Unavailable) -> None:
        if future.done():
            return
        if isinstance(result, Unavailable):
            future.set_exception(result)
        else:
            future.set_result(result)

    send(channel, data, finish)
    return future
