"""Redis I/O of the bus: one connection that subscribes, one that publishes.

redis-py silently recreates a lost pub/sub connection and never notices one whose packets are
dropped. Therefore the connections are used directly: each is opened once, closed at the first error
or after SILENCE_SECONDS without a message, and then replaced. `publisher` publishes.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn

import structlog

from shared.bus import counters, log_events
from shared.bus.errors import Rejected
from shared.bus.monitor import ConnectionMonitor, SilenceError
from shared.bus.ports import uncounted
from shared.bus.publisher import Publisher
from shared.observability.health import Health
from shared.redis.connection import CONNECT_SECONDS, Connection, make_connection, pack
from shared.redis.failover import RENEW_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from shared.bus.envelope import Envelope, Opened
    from shared.bus.ports import Count
    from shared.clock import Clock
    from shared.redis.access import RedisAccess

SILENCE_SECONDS: Final = 3.0
"""A subscription without messages for this long is closed: events come each second (R14)."""


class RenewedError(Exception):
    """The connection was closed deliberately, to be replaced."""


class RedisBus:
    """Publishes sealed messages, and delivers those of the channels that are subscribed.

    Redis may be unavailable at the start or later: nothing here fails because of it.
    `on_subscribed` is called each time all channels are confirmed: messages published before may be
    lost. `on_publishing` is called each time messages can be published again. As soon as one of the
    two connections works, the other one is opened without waiting any longer.
    """

    def __init__(
        self,
        access: RedisAccess,
        envelope: Envelope,
        *,
        on_subscribed: Callable[[], None],
        on_publishing: Callable[[], None] = lambda: None,
        on_rejected: Callable[[Rejected], None],
        clock: Clock,
        log: FilteringBoundLogger | None = None,
        count: Count = uncounted,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        """Create the bus without connecting."""
        self._access = access
        access.reset.hold(self._give_up)
        self._pool = access.pool(
            max_connections=2,
            timeout_seconds=CONNECT_SECONDS,
            name=f"latchkey-{envelope.boot_id[:8]}",
            socket_timeout=None,
        )
        self._envelope = envelope
        self._handlers: dict[str, Callable[[Opened], None]] = {}
        self._on_subscribed = on_subscribed
        self._on_publishing = on_publishing
        self._on_rejected = on_rejected
        self._log = log or structlog.get_logger(__name__)
        self._count = count
        self._count_read = count.adder(counters.MESSAGES_READ)
        self._silence_seconds = silence_seconds
        self._subscription = ConnectionMonitor("subscription", clock, self._log, count)
        self._subscription.trouble = "not subscribed yet"
        self._publishing = ConnectionMonitor("publisher", clock, self._log, count)
        self._publisher = Publisher(
            partial(make_connection, self._pool),
            self._publishing,
            subscription=self._subscription,
            own_channels=self._handlers.keys(),
            on_unheard=self._renew_unheard,
            on_connected=self._publishes,
        )
        self.send: Final = self._publisher.send
        """Publish sealed data on a channel; see `Publisher.send`."""
        self._listening: Connection | None = None
        self._pausing: asyncio.Future[None] | None = None
        """Ends the pause before the next subscription early."""
        self._renew_at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def subscribe(self, channel: str, handler: Callable[[Opened], None]) -> None:
        """Deliver the messages of a channel to `handler`; to be called before `start`."""
        self._handlers[channel] = handler

    async def start(self) -> None:
        """Start connecting and return immediately; `on_subscribed` is called when done."""
        self._task = asyncio.create_task(self._listen_for_ever(), name="bus-subscription")
        self._publisher.start()

    async def stop(self) -> None:
        """Publish waiting messages within a second, then disconnect and follow no sentinels."""
        await self._publisher.stop()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._subscription.trouble = "stopped"
        await self._access.stop()

    def renew(self, why: str) -> None:
        """Replace both connections, at most once in RENEW_SECONDS: they may reach another server.

        As with any lost connection, messages published before `on_subscribed` may be lost.
        """
        now = asyncio.get_running_loop().time()
        if now >= self._renew_at:
            self._replace(why)

    def _replace(self, why: str) -> None:
        self._renew_at = asyncio.get_running_loop().time() + RENEW_SECONDS
        self._log.warning(log_events.RENEWED.name, why=why)
        for connection in (self._listening, self._publisher.connection):
            if connection is not None:
                connection.drop(RenewedError(why))

    def _renew_unheard(self) -> None:
        self.renew("own messages reach nobody: the two connections lead to different servers")

    async def _give_up(self) -> None:
        self._replace("this Redis is no longer the master")

    def status(self) -> tuple[bool, str]:
        """Return whether Redis accepts and delivers messages, and the reason if not.

        It is also ok if nothing is published: the responder pool reports missing approval replicas.
        """
        # A connection closed after silence is replaced at once; only if that fails is Redis at
        # fault.
        subscription = "" if self._subscription.silent else self._subscription.trouble
        trouble = subscription or self._publishing.trouble
        if trouble:  # once the primary is unknown, every connection fails because of that
            trouble = self._access.trouble() or trouble
        return not trouble, trouble or "subscribed"

    def health(self) -> Health:
        """Return `status` with what is wrong besides, while Redis can be used."""
        ok, reason = self.status()
        return Health(ok, reason, warnings=self._access.warnings())

    async def _listen_for_ever(self) -> None:
        while True:
            try:
                await self._listen()
            except Exception as error:  # noqa: BLE001  whatever it was, connect anew
                await self._pause(self._subscription.failed(error))

    async def _pause(self, seconds: float) -> None:
        self._pausing = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._pausing], timeout=seconds)

    def _publishes(self) -> None:
        """Subscribe without waiting any longer, because Redis was reached just now."""
        if self._pausing is not None and not self._pausing.done():
            self._pausing.set_result(None)
        self._call(self._on_publishing)

    async def _listen(self) -> NoReturn:
        """Deliver one connection's messages until it fails."""
        now = asyncio.get_running_loop().time
        handlers = {channel.encode(): (channel, run) for channel, run in self._handlers.items()}
        unconfirmed = set(handlers)
        heard_at = now()

        def take(reply: list[bytes]) -> None:
            nonlocal heard_at
            heard_at = now()
            kind, channel, data = reply
            if kind == b"message":
                self._take(*handlers[channel], data)
            elif unconfirmed:
                unconfirmed.discard(channel)
                if not unconfirmed:
                    self._confirmed()

        connection = self._listening = await make_connection(self._pool, take)
        try:
            connection.send(pack("SUBSCRIBE", *handlers))
            while connection.error is None:
                left = heard_at + self._silence_seconds - now()
                if left <= 0:
                    raise SilenceError(self._silence_seconds)
                await asyncio.wait([connection.lost], timeout=left)
            raise connection.error
        finally:
            await connection.close()

    def _confirmed(self) -> None:
        self._subscription.connected()
        self._publisher.connect_now()
        self._call(self._on_subscribed)

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:  # noqa: BLE001  logged; the connection is as good as before
            self._log.exception("bus_subscribed_failed")

    def _take(self, channel: str, handler: Callable[[Opened], None], data: bytes) -> None:
        if self._subscription.silent:
            self._subscription.works()
        sender = ""
        try:
            try:
                opened = self._envelope.open(channel, data)
            except Rejected as rejected:
                self._on_rejected(rejected)
                return
            sender = opened.sender
            self._count_read(1)
            handler(opened)
        except Exception:  # noqa: BLE001  logged; one message must not end the reader
            self._count(counters.MESSAGES_FAILED)
            self._log.exception("bus_message_failed", channel=channel, sender=sender)
