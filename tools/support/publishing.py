"""Publishing on the bus for callers that wait for the number of subscribers."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from shared.rpc.requester import settle

if TYPE_CHECKING:
    from shared.bus.ports import Send


def published(send: Send, channel: str, data: bytes) -> asyncio.Future[int]:
    """Publish sealed data; the future yields the number of subscribers, or Unavailable."""
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    send(channel, data, partial(settle, future))
    return future
