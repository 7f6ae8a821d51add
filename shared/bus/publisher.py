"""Publishes over one Redis connection, in rounds.

A round sends all waiting messages with one write, and takes one round trip. A turn of the event
loop collects messages, the next one writes them, and the replies call back; what is published
meanwhile waits for the next round. No message and no round has a task, a future or a timer of its
own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

from shared.bus.errors import Unavailable
from shared.bus.monitor import describe
from shared.redis.connection import pack
from shared.redis.lost import is_lost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from collections.abc import Set as AbstractSet

    from shared.bus.monitor import ConnectionMonitor
    from shared.redis.connection import Call, Connection

MESSAGES_LIMIT: Final = 4096
"""Maximum number of waiting messages; beyond it, publishing fails immediately."""
WAITING_LIMIT_BYTES: Final = 32 * 1024 * 1024
"""Maximum number of waiting bytes."""
ROUND_MESSAGES: Final = 512
"""Maximum number of messages in one round trip."""
ROUND_BYTES: Final = 4 * 1024 * 1024
"""Approximate size of one round trip; a larger message is sent alone."""
PUBLISH_SECONDS: Final = 1.0
"""Maximum duration of one round trip."""
STOP_SECONDS: Final = 1.0
"""How long stopping waits for waiting messages to be published."""
UNHEARD_LIMIT: Final = 3
"""After this many rounds of own messages that did not arrive here, `on_unheard` is called."""

_STOPPED: Final = "the bus is stopped"


class OutgoingMessage(msgspec.Struct, eq=False):
    """A message to publish. `then` gets the number of subscribers, or Unavailable, once."""

    channel: str
    data: bytes
    then: Callable[[int | Unavailable], object] | None
    """None once it is called, or the sender has given up."""

    def give_up(self) -> None:
        """Cancel the message: it is not published if it still waits, and `then` is not called."""
        self.then = None


class Publisher:
    """A bounded queue of messages, and the connection that publishes them.

    While Redis is known to be unavailable, messages fail immediately; the connection is tried again
    after the pause that `monitor` says. While `subscription` works, messages to `own_channels` have
    to reach this process itself; if they do not, the two connections lead to different servers.
    `on_connected` is called each time a new connection works after a failed one.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        monitor: ConnectionMonitor,
        *,
        subscription: ConnectionMonitor,
        own_channels: AbstractSet[str],
        on_unheard: Callable[[], None],
        on_connected: Callable[[], None] = lambda: None,
    ) -> None:
        self._connect = connect
        self._monitor = monitor
        self._subscription = subscription
        self._own_channels = own_channels
        self._on_unheard = on_unheard
        self._on_connected = on_connected
        self._unheard = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[OutgoingMessage] = deque()
        self._waiting_bytes = 0
        self._idle = False
        """Whether no round is scheduled or under way, and no connection is being opened."""
        self._connect_at: float | None = 0.0
        """When to connect at the earliest (loop time); None once a connection has worked."""
        self._connecting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        """The next attempt to connect."""
        self._round: list[OutgoingMessage] | None = None
        """The messages that Redis has not confirmed yet."""
        self._round_at = 0.0
        """When they were written (loop time)."""
        self._watch: asyncio.TimerHandle | None = None
        """Drops the connection if a round takes too long. One timer serves successive rounds."""
        self._subscribed = False
        """Whether the subscription worked when the round was written."""
        self._closed = False
        self._stopped = False
        self._emptied: asyncio.Future[None] | None = None
        self.connection: Connection | None = None

    def send(
        self, channel: str, data: bytes, then: Callable[[int | Unavailable], object]
    ) -> OutgoingMessage:
        """Publish sealed data; `then` gets the number of subscribers, or Unavailable.

        Raises Unavailable("redis") if stopped, or if too much waits. All messages use one
        connection, in the order of the calls.
        """
        if self._closed:
            raise Unavailable("redis", detail=_STOPPED)
        bytes_then = self._waiting_bytes + len(data)
        if len(self._waiting) >= MESSAGES_LIMIT or bytes_then > WAITING_LIMIT_BYTES:
            raise Unavailable("redis", detail="too much waits to be published")
        message = OutgoingMessage(channel, data, then)
        self._waiting.append(message)
        self._waiting_bytes = bytes_then
        if self._idle:
            self._idle = False
            loop = self._loop or asyncio.get_running_loop()
            loop.call_soon(self._start_round)
        return message

    def start(self) -> None:
        """Connect; messages wait until then."""
        loop = self._loop = asyncio.get_running_loop()
        self._connecting = loop.create_task(self._open_connection(), name="bus-publisher")

    def connect_now(self) -> None:
        """End a pause before connecting, because Redis was reached just now."""
        loop, connect_at = self._loop, self._connect_at
        if loop is None or connect_at is None or self._closed or loop.time() >= connect_at:
            return
        self._cancel_timer()
        self._connect_again()

    async def stop(self) -> None:
        """Publish what waits within STOP_SECONDS, then disconnect."""
        self._closed = True
        if not self._idle and self._connecting is not None:
            self._emptied = asyncio.get_running_loop().create_future()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await self._emptied
        self._stopped = True
        self._cancel_timer()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        self._fail(self._take_all(), _STOPPED)
        await self._disconnect()

    def _start_round(self) -> None:
        """Write what waits; the replies end the round and start the next one."""
        connection, loop = self.connection, self._loop or asyncio.get_running_loop()
        if (
            self._connect_at is not None
            and self._monitor.trouble
            and loop.time() < self._connect_at
        ):
            messages = self._take_all()
            self._become_idle()
            self._fail(messages, self._monitor.trouble)  # a callback may publish again
            return
        if not self._waiting and self._connect_at is None:
            self._become_idle()
            return
        if connection is None or connection.error is not None:
            # Redis may have closed the connection while it was idle.
            self._cancel_timer()
            self.start()
            return
        messages = self._take_round()
        packed = [pack("PUBLISH", message.channel, message.data) for message in messages]
        if not packed and self._connect_at is None:
            self._become_idle()
            return
        packed = packed or [pack("PING")]
        try:
            connection.call(b"".join(packed), len(packed), self._on_replies)
        except Exception as error:  # noqa: BLE001  whatever it was, connect anew
            self._end_connection(error, messages)
            return
        self._round, self._round_at = messages, loop.time()
        self._subscribed = not self._subscription.trouble
        if self._watch is None:
            self._watch = loop.call_later(PUBLISH_SECONDS, self._look)

    def _look(self) -> None:
        """Drop a connection whose replies take too long."""
        self._watch = None
        if self._round is None:
            return
        loop = self._loop or asyncio.get_running_loop()
        left = self._round_at + PUBLISH_SECONDS - loop.time()
        if left > 0:
            self._watch = loop.call_later(left, self._look)
        elif self.connection is not None:
            self.connection.drop(TimeoutError())

    def _on_replies(self, call: Call, error: Exception | None) -> None:
        messages, self._round = self._round or [], None
        # No permission, or no longer a master: another connection may work.
        error = error or next((one for one in call.replies if isinstance(one, Exception)), None)
        for message, reply in zip(messages, call.replies, strict=False):
            if isinstance(reply, Exception):
                self._fail([message], describe(reply))
            else:
                self._tell(message, reply)
        if error is not None:
            self._end_connection(error, messages)
            return
        if self._connect_at is not None:
            self._connect_at = None
            self._monitor.works()
            self._on_connected()
        if self._subscribed and not self._subscription.trouble:
            counts = zip(messages, call.replies, strict=False)
            reached = [count for message, count in counts if message.channel in self._own_channels]
            if reached:
                self._unheard = 0 if any(reached) else self._unheard + 1
                if self._unheard >= UNHEARD_LIMIT:
                    self._unheard = 0
                    self._on_unheard()
        self._start_round()

    def _end_connection(self, error: Exception, messages: list[OutgoingMessage]) -> None:
        """Fail what is unconfirmed, and connect anew after a pause."""
        if self.connection is not None:
            self.connection.drop(error)
        if self._stopped:
            self._fail(messages, "given up while publishing")
            return
        loop = asyncio.get_running_loop()
        pause = self._monitor.failed(error)
        self._connect_at = loop.time() + pause
        self._timer = loop.call_later(pause, self._connect_again)
        self._fail(messages, self._monitor.trouble)
        self._start_round()

    def _connect_again(self) -> None:
        self._timer = None
        self._connect_at = 0.0
        if self._idle:
            self._idle = False
            self.start()

    async def _open_connection(self) -> None:
        try:
            await self._disconnect()
            self.connection = await self._connect()
        except Exception as error:  # noqa: BLE001  whatever it was, connect anew
            self._end_connection(error, self._take_all())
        else:
            self._start_round()

    def _become_idle(self) -> None:
        self._idle = True
        if self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def _take_round(self) -> list[OutgoingMessage]:
        """Take what fits one round trip; what its sender gave up is dropped, not published."""
        taken: list[OutgoingMessage] = []
        size = 0
        while self._waiting and len(taken) < ROUND_MESSAGES:
            message = self._waiting[0]
            if taken and size + len(message.data) > ROUND_BYTES:
                break
            self._waiting.popleft()
            self._waiting_bytes -= len(message.data)
            if message.then is not None:
                taken.append(message)
                size += len(message.data)
        return taken

    def _take_all(self) -> list[OutgoingMessage]:
        taken, self._waiting = list(self._waiting), deque()
        self._waiting_bytes = 0
        return taken

    def _fail(self, messages: list[OutgoingMessage], detail: str) -> None:
        """Report that, as far as is known, these messages were not published."""
        for message in messages:
            self._tell(message, Unavailable("redis", detail=detail))

    def _tell(self, message: OutgoingMessage, result: int | Unavailable) -> None:
        """Call back, once; an error there is reported, and ends neither the round nor others."""
        then, message.then = message.then, None
        if then is None:
            return
        try:
            then(result)
        except Exception as error:  # noqa: BLE001  the event loop logs it
            loop = self._loop or asyncio.get_running_loop()
            loop.call_exception_handler(
                {"message": "a callback of publishing failed", "exception": error}
            )

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _disconnect(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            try:
                await connection.close()
            except Exception as error:
                if not is_lost(error):
                    raise
