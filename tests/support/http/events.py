"""A reader for server-sent events as in a browser: fields, comments and Last-Event-ID."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiohttp import ClientResponse

EVENT_SECONDS = 20.0


@dataclass(frozen=True)
class Event:
    """One event: its id, its name and its JSON data."""

    id: int
    name: str
    data: Any


class EventReader:
    """Reads one stream. `last_id` is the position to resume from, `comments` counts heartbeats."""

    def __init__(self, response: ClientResponse) -> None:
        self._response = response
        self.last_id: int | None = None
        self.retry_ms: int | None = None
        self.comments = 0

    async def begun(self) -> int:
        """Return the stream's first position: an id without data."""
        while self.last_id is None:
            assert await self._block() is None
        return self.last_id

    async def next(self) -> Event | None:
        """Return the next event; None at the end of the stream."""
        while not self._response.content.at_eof():
            event = await self._block()
            if event is not None:
                return event
        return None

    async def take(self, count: int) -> list[Event]:
        """Return this many events."""
        found = [await self.next() for _ in range(count)]
        assert None not in found, found
        return [event for event in found if event is not None]

    async def _block(self) -> Event | None:
        """Read up to the next empty line; returns the event, if any."""
        fields: dict[str, str] = {}
        while line := (await self._line()).rstrip("\n"):
            if line.startswith(":"):
                self.comments += 1
                continue
            name, _, value = line.partition(":")
            assert name in {"id", "event", "data", "retry"}, line
            assert name not in fields, fields
            fields[name] = value.removeprefix(" ")
        if "id" in fields:
            self.last_id = int(fields["id"])
        if "retry" in fields:
            self.retry_ms = int(fields["retry"])
        if "data" not in fields:
            return None
        assert self.last_id is not None
        return Event(self.last_id, fields["event"], json.loads(fields["data"]))

    async def _line(self) -> str:
        async with asyncio.timeout(EVENT_SECONDS):
            return (await self._response.content.readline()).decode()
