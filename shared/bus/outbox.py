"""A bounded queue of messages to publish, taken in batches. No I/O."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from shared.bus.errors import Unavailable

MESSAGES_LIMIT: Final = 4096
"""Maximum number of queued messages; beyond it, publishing fails immediately."""
WAITING_LIMIT_BYTES: Final = 32 * 1024 * 1024
"""Maximum number of queued bytes."""
ROUND_MESSAGES: Final = 512
"""Maximum number of messages in one round trip."""
ROUND_BYTES: Final = 4 * 1024 * 1024
"""Approximate size of one round trip; a larger message is sent alone."""


class OutgoingMessage:
    """One message to publish; the future yields the number of subscribers, or Unavailable."""

    __slots__ = ("channel", "data", "published")

    def __init__(self, channel: str, data: bytes, published: asyncio.Future[int]) -> None:
        """Store the values."""
        self.channel = channel
        self.data = data
        self.published = published

    def done(self, subscribers: int) -> None:
        """Report the number of subscribers that received it."""
        if not self.published.done():
            self.published.set_result(subscribers)

    def fail(self, detail: str) -> None:
        """Report that, as far as is known, it was not published."""
        if not self.published.done():
            self.published.set_exception(Unavailable("redis", detail=detail))


class Outbox:
    """A queue with one reader. Messages whose sender gave up are dropped, not published."""

    def __init__(self) -> None:
        """Create an empty queue."""
        self._waiting: deque[OutgoingMessage] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()
        self._closed = ""

    def put(self, channel: str, data: bytes) -> asyncio.Future[int]:
        """Queue a message; raises Unavailable("redis") when full or closed."""
        if self._closed:
            raise Unavailable("redis", detail=self._closed)
        if len(self._waiting) >= MESSAGES_LIMIT or self._bytes + len(data) > WAITING_LIMIT_BYTES:
            raise Unavailable("redis", detail="too much waits to be published")
        published: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(OutgoingMessage(channel, data, published))
        self._bytes += len(data)
        self._filled.set()
        return published

    async def take(self) -> list[OutgoingMessage]:
        """Wait for messages, then return those that fit one round trip; [] when closed."""
        taken: list[OutgoingMessage] = []
        while not taken and not (self._closed and not self._waiting):
            await self._filled.wait()
            size = 0
            while self._waiting and len(taken) < ROUND_MESSAGES:
                message = self._waiting[0]
                if taken and size + len(message.data) > ROUND_BYTES:
                    break
                self._waiting.popleft()
                self._bytes -= len(message.data)
                if not message.published.done():
                    taken.append(message)
                    size += len(message.data)
            if not self._waiting and not self._closed:
                self._filled.clear()
        return taken

    def close(self, detail: str) -> None:
        """Refuse new messages; those already queued can still be taken."""
        self._closed = detail
        self._filled.set()

    def fail(self, detail: str) -> None:
        """Fail all queued messages."""
        waiting, self._waiting = self._waiting, deque()
        self._bytes = 0
        for message in waiting:
            message.fail(detail)
