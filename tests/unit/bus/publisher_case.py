"""A publisher on a scripted connection, in virtual time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import structlog

from shared.bus.monitor import ConnectionMonitor
from shared.bus.ports import uncounted
from shared.bus.publisher import (
    Publisher,
)
from shared.redis.connection import Call, pack
from tests.support.clock import FakeClock, turns
from tools.support.publishing import published as published_by

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OWN = "latchkey:events"


class FakeConnection:
    """Records each write; `reply` answers the oldest one that is unanswered."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.written: list[bytes] = []
        self.closed = False
        self._calls: list[Call] = []

    def call(
        self, data: bytes, replies: int, on_end: Callable[[Call, Exception | None], object]
    ) -> None:
        if self.error is not None:
            raise self.error
        self.written.append(data)
        self._calls.append(Call(replies, on_end))

    def reply(self, replies: Sequence[object]) -> None:
        call = self._calls.pop(0)
        assert [call.take(reply) for reply in replies][-1], "as many as were asked for"
        call.end(None)

    def drop(self, error: Exception) -> None:
        if self.error is None:
            self.error = error
            calls, self._calls = self._calls, []
            for call in calls:
                asyncio.get_running_loop().call_soon(call.end, error)

    async def close(self) -> None:
        self.closed = True
        self.drop(ConnectionError("closed"))


class Case:
    """A publisher and the connections that it opened; it is connected from the start."""

    def __init__(self, clock: FakeClock) -> None:
        log = structlog.get_logger()
        self.opened: list[FakeConnection] = []
        self.unreachable = False
        self.unheard = 0
        self.connected = 0
        self.monitor = ConnectionMonitor("publisher", clock, log, uncounted)
        self.subscription = ConnectionMonitor("subscription", clock, log, uncounted)
        self.publisher = Publisher(
            self._connect,
            self.monitor,
            subscription=self.subscription,
            own_channels=frozenset({OWN}),
            on_unheard=self._on_unheard,
            on_connected=self._on_connected,
        )

    async def _connect(self) -> Any:
        if self.unreachable:
            raise ConnectionError("refused")
        self.opened.append(FakeConnection())
        return cast("Any", self.opened[-1])

    def _on_unheard(self) -> None:
        self.unheard += 1

    def _on_connected(self) -> None:
        self.connected += 1

    @property
    def connection(self) -> FakeConnection:
        """The latest connection."""
        return self.opened[-1]

    def publish(self, channel: str, data: bytes) -> asyncio.Future[int]:
        """Publish; the future yields the number of subscribers, or Unavailable."""
        return published_by(self.publisher.send, channel, data)

    async def start(self) -> None:
        """Connect; the first round is a PING."""
        self.publisher.start()
        await turns()
        assert self.connection.written == [pack("PING")]
        self.connection.reply([b"PONG"])
        await turns()
        self.connection.written.clear()

    async def rounds(self, count: int) -> list[int]:
        """Answer rounds; return how many messages each had."""
        sizes = []
        for _ in range(count):
            await turns()
            sizes.append(self.connection.written[-1].count(b"PUBLISH"))
            self.connection.reply([1] * sizes[-1])
        await turns()
        return sizes


def published(channel: str, *bodies: bytes) -> bytes:
    return b"".join(pack("PUBLISH", channel, body) for body in bodies)
