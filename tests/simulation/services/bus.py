"""The bus of a process: the interface of `RedisBus` over simulated connections.

One connection publishes, one is subscribed. A subscription that ends with an error is renewed at
once; one that is lost silently only after SILENCE_SECONDS without a message (R14).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.bus.errors import Rejected, Unavailable
from shared.bus.publisher import PUBLISH_SECONDS, OutgoingMessage
from shared.bus.redis_bus import SILENCE_SECONDS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from shared.bus.envelope import Envelope, Opened
    from tests.simulation.engine.network import Line
    from tests.simulation.engine.world import Process
    from tests.simulation.redis.server import Server


class SimulatedBus:
    """Publishes messages and delivers incoming ones."""

    silence_seconds = SILENCE_SECONDS

    def __init__(
        self,
        process: Process,
        publisher: Line,
        subscription: Line,
        envelope: Envelope,
        *,
        on_subscribed: Callable[[], None],
    ) -> None:
        self._process = process
        self.publisher = publisher
        self.subscription = subscription
        self._envelope = envelope
        self._handlers: dict[str, Callable[[Opened], None]] = {}
        self._on_subscribed = on_subscribed
        self._number = 0
        self._seat: tuple[Server, object] | None = None
        self._heard_at = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self.trouble = "not subscribed yet"

    def subscribe(self, channel: str, handler: Callable[[Opened], None]) -> None:
        """Deliver the messages of a channel to `handler`; to be called before `start`."""
        self._handlers[channel] = handler

    def start(self) -> None:
        """Subscribe; must be called within the process."""
        self._connect()

    def send(
        self, channel: str, data: bytes, then: Callable[[int | Unavailable], object]
    ) -> OutgoingMessage:
        """Publish; `then` gets the number of receivers, or Unavailable after a timeout."""
        message = OutgoingMessage(channel, data, then)
        late = self._process.loop.call_later(PUBLISH_SECONDS, _fail, message)
        self.publisher.up.carry(self._arrived, self.publisher.server, channel, data, message, late)
        return message

    def lose(self, *, silently: bool) -> None:
        """Lose the subscription: the server alone forgets it, or both ends notice."""
        self._leave()
        if not silently and not self._process.gone:
            self._process.receive(self._broken, self._number)

    def subscribed_elsewhere(self) -> bool:
        """Return whether the connection leads to another server than the subscription's."""
        return self._seat is not None and self._seat[0] is not self.subscription.server

    def is_at(self, server: Server) -> bool:
        """Return whether the subscription is at this server and known to the process."""
        return not self.trouble and self._seat is not None and self._seat[0] is server

    def _arrived(
        self,
        server: Server,
        channel: str,
        data: bytes,
        message: OutgoingMessage,
        late: asyncio.TimerHandle,
    ) -> None:
        if not server.up:
            self.publisher.down.carry(self._process.receive, _fail, message)
            return
        count = server.publish(channel, data)
        self.publisher.down.carry(self._process.receive, _done, message, count, late)

    def _connect(self) -> None:
        """Open a new connection to the server that the connection leads to now."""
        self._number += 1
        server = self.subscription.server
        number = self._number
        self.subscription.up.forget()
        self.subscription.up.carry(self._ask_for, server, number)
        self._heard_at = self._process.loop.time()
        if self._watch is None:
            self._watch = self._process.loop.call_later(self.silence_seconds, self._look)

    def _ask_for(self, server: Server, number: int) -> None:
        if self._process.gone or number != self._number:
            return  # the caller has dropped that connection
        if not server.up:
            self.subscription.down.carry(self._process.receive, self._broken, number)
            return
        self._leave()
        self._seat = server, (self, number)

        def deliver(channel: str, data: bytes) -> None:
            self.subscription.down.carry(self._process.receive, self._take, number, channel, data)

        server.subscribe((self, number), list(self._handlers), deliver)
        self.subscription.down.carry(self._process.receive, self._confirmed, number)

    def _leave(self) -> None:
        if self._seat is not None:
            server, who = self._seat
            server.unsubscribe(who)
            self._seat = None

    def _confirmed(self, number: int) -> None:
        if number == self._number:
            self._heard_at = self._process.loop.time()
            self.trouble = ""
            self._on_subscribed()

    def _take(self, number: int, channel: str, data: bytes) -> None:
        if number != self._number:
            return
        self._heard_at = self._process.loop.time()
        try:
            opened = self._envelope.open(channel, data)
        except Rejected:
            return
        self._handlers[channel](opened)

    def _broken(self, number: int) -> None:
        if number == self._number:
            self.trouble = "lost"
            self._number += 1  # nothing more is taken from it
            self._process.loop.call_later(0.05, self._connect)

    def _look(self) -> None:
        """Drop the subscription when it has been silent for too long."""
        loop = self._process.loop
        until = self._heard_at + self.silence_seconds
        if loop.time() >= until - 1e-6:
            self.trouble = "silent"
            self._process.count("R14")
            self._connect()
            until = loop.time() + self.silence_seconds
        self._watch = loop.call_at(until, self._look)


def _done(message: OutgoingMessage, count: int, late: asyncio.TimerHandle) -> None:
    late.cancel()
    _tell(message, count)


def _fail(message: OutgoingMessage) -> None:
    _tell(message, Unavailable("redis", detail="no answer in time"))


def _tell(message: OutgoingMessage, result: int | Unavailable) -> None:
    then, message.then = message.then, None
    if then is not None:
        then(result)
