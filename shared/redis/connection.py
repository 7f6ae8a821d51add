"""A Redis connection without tasks and streams: replies are processed as they arrive.

redis-py opens the connection (URL, TLS, login). After that its transport is read here, because
redis-py's own reading costs several times as much per message.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import hiredis
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import InvalidResponse, ResponseError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.asyncio import ConnectionPool, Redis

    Values = list[bytes | None]
    Then = Callable[[Values | Exception], object]

CONNECT_SECONDS: Final = 2.0
"""Maximum time to connect, including TLS and login."""
IDLE_SECONDS: Final = 60.0
"""A connection that was idle for longer is replaced before it is used: networks and managed
services forget such connections silently, and the next command would wait for its timeout."""

_pack: Final[Any] = hiredis.pack_command  # its stub allows single-word commands only


class _Made(Protocol):
    """The part of redis-py's Connection, which is not fully typed, that is used here."""

    _writer: asyncio.StreamWriter | None

    async def connect(self) -> None: ...
    async def disconnect(self, nowait: bool = False) -> None: ...  # noqa: FBT001, FBT002


def pack(*words: str | bytes) -> bytes:
    """Encode one command."""
    packed: bytes = _pack(words)
    return packed


class Call:
    """Commands that were sent together: their replies so far, including errors.

    `on_end` is called once: with None after the last reply, else with the error that ended the
    connection.
    """

    __slots__ = ("_expected", "_on_end", "replies")

    def __init__(self, expected: int, on_end: Callable[[Call, Exception | None], object]) -> None:
        """Expect `expected` replies."""
        self._expected = expected
        self._on_end = on_end
        self.replies: list[Any] = []

    def take(self, reply: object) -> bool:
        """Add the next reply; return whether it was the last."""
        self.replies.append(reply)
        return len(self.replies) == self._expected

    def end(self, error: Exception | None) -> None:
        """Report the end."""
        self._on_end(self, error)


class Get:
    """A single command; `then` gets its reply or error, or the error that ended the connection."""

    __slots__ = ("_reply", "_then", "sent_at")

    def __init__(self, then: Callable[[Any], object], sent_at: float) -> None:
        """Expect a reply to what was sent at this time of the event loop."""
        self._then = then
        self._reply: object = None
        self.sent_at = sent_at

    def take(self, reply: object) -> bool:
        """Take the reply; it is the last."""
        self._reply = reply
        return True

    def end(self, error: Exception | None) -> None:
        """Call back. An error there is reported, and does not end the connection."""
        try:
            self._then(self._reply if error is None else error)
        except Exception as failure:  # noqa: BLE001  the event loop logs it
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a callback of a reply failed", "exception": failure}
            )


class Connection(asyncio.Protocol):
    """Matches replies with calls in order, or passes everything received to `listener`.

    The first error, or an unexpected reply, closes it permanently.
    """

    def __init__(self, made: _Made, listener: Callable[[Any], None] | None) -> None:
        """Take over the connection; use `make_connection`."""
        self._made = made
        self._listener = listener
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=ResponseError)
        self._calls: deque[Call | Get] = deque()
        self._loop = asyncio.get_running_loop()
        self._transport = cast("Any", made._writer).transport  # noqa: SLF001
        self._transport.set_protocol(self)
        self.error: Exception | None = None
        """Why it is lost; None while it is connected."""
        self.used_at = self._loop.time()
        """When it was opened, or `get` was called last, in the event loop's time."""
        self.lost: asyncio.Future[None] = self._loop.create_future()
        """Done once the connection is lost."""
        if self._transport.is_closing():
            self._lose(LostError("closed while it was made"))

    def send(self, data: bytes) -> None:
        """Send commands whose replies go to the listener; raises the error if it is lost."""
        self._write(data)

    def call(
        self, data: bytes, replies: int, on_end: Callable[[Call, Exception | None], object]
    ) -> None:
        """Send packed commands and expect `replies` replies; raises the error if it is lost.

        `on_end` is called as soon as the last reply is read, or the connection is lost.
        """
        if self.error is not None:
            raise self.error
        self._write(data)
        self._calls.append(Call(replies, on_end))

    def get(self, data: bytes, then: Callable[[Any], object]) -> None:
        """Send a packed command; raises the error if it is lost.

        `then` gets the reply, or the error, in a later turn of the event loop.
        """
        if self.error is not None:
            raise self.error
        self._write(data)
        self.used_at = self._loop.time()
        self._calls.append(Get(then, self.used_at))

    def waiting_since(self) -> float | None:
        """Return when the oldest unanswered `get` was sent, in the event loop's time."""
        oldest = self._calls[0] if self._calls else None
        return oldest.sent_at if isinstance(oldest, Get) else None

    def drop(self, error: Exception) -> None:
        """Close immediately; calls in progress fail with `error`."""
        self._lose(error)
        self._transport.abort()

    async def close(self) -> None:
        """Close without waiting for replies."""
        self._lose(LostError("closed"))
        await self._made.disconnect(nowait=True)

    def data_received(self, data: bytes) -> None:
        """Process replies from the transport."""
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                self._take(reply)
        except Exception as error:  # noqa: BLE001  whatever it was, the connection is out of step
            self._lose(error)
            self._transport.abort()

    def eof_received(self) -> None:
        """Handle a close by Redis."""
        self._lose(LostError("closed by Redis"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle the loss of the transport."""
        self._lose(exc or LostError("closed by Redis"))

    def _write(self, data: bytes) -> None:
        """Write to the transport, which reports an earlier close only here."""
        try:
            self._transport.write(data)
        except (RuntimeError, OSError) as error:
            self._lose(LostError(f"closed: {error}"))
            raise self.error or error from error

    def _take(self, reply: object) -> None:
        if self._listener is not None:
            if isinstance(reply, Exception):
                raise reply
            self._listener(reply)
        elif not self._calls:
            raise LostError("something came that nobody asked for")
        elif self._calls[0].take(reply):
            self._calls.popleft().end(None)

    def _lose(self, error: Exception) -> None:
        if self.error is not None:
            return
        self.error = error
        self.lost.set_result(None)
        calls, self._calls = self._calls, deque()
        for call in calls:
            self._loop.call_soon(call.end, error)


async def make_connection(
    pool: ConnectionPool, listener: Callable[[Any], None] | None = None
) -> Connection:
    """Open a connection with the pool's settings, outside of the pool."""
    made = cast("_Made", pool.make_connection())  # type: ignore[no-untyped-call]
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await made.connect()
    except BaseException:
        await made.disconnect(nowait=True)
        raise
    if made._writer is None:  # noqa: SLF001  redis-py drops it with the connection
        message = "closed while it was made"
        raise LostError(message)
    return Connection(made, listener)


class Reads:
    """MGET with the settings of a client (`make_client`), at a fraction of its cost.

    A read on an open connection is one write and one callback, without a future, a task or a timer
    of its own. Nothing is retried; the next read replaces a lost connection.
    """

    def __init__(
        self, client: Redis, timeout_seconds: float, *, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        """Create a reader without connecting."""
        self._pool = client.connection_pool
        self._timeout_seconds = timeout_seconds
        self._idle_seconds = idle_seconds
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._waiting: list[tuple[Sequence[str], Then]] = []
        """Reads that wait for the connection that is being opened."""
        self._watch: asyncio.TimerHandle | None = None

    def read(self, keys: Sequence[str], then: Then) -> None:
        """Read the values of the keys, None for missing ones.

        `then` gets them in a later turn of the event loop, or one of the client's errors:
        RedisError, OSError or TimeoutError.
        """
        connection = self._connection
        if connection is None or connection.error is not None or self._is_idle(connection):
            self._waiting.append((keys, then))
            if self._connecting is None:
                self._connecting = asyncio.create_task(self._connect())
                self._connecting.add_done_callback(self._connected)
        else:
            self._get(connection, keys, then)

    def _is_idle(self, connection: Connection) -> bool:
        return asyncio.get_running_loop().time() - connection.used_at > self._idle_seconds

    async def close(self) -> None:
        """Close the connection, also one that is being opened; reads in progress fail."""
        if self._connecting is not None:
            self._connecting.cancel()
        await self._disconnect()

    async def _disconnect(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._connection is not None:
            await self._connection.close()

    def _get(self, connection: Connection, keys: Sequence[str], then: Then) -> None:
        try:
            connection.get(pack("MGET", *keys), then)
        except Exception as error:  # noqa: BLE001  the transport was closed unnoticed
            asyncio.get_running_loop().call_soon(then, error)
            return
        if self._watch is None:
            self._watch_until(asyncio.get_running_loop().time() + self._timeout_seconds)

    async def _connect(self) -> Connection:
        await self._disconnect()
        self._connection = await make_connection(self._pool)
        return self._connection

    def _connected(self, connecting: asyncio.Task[Connection]) -> None:
        """Read what waits for the connection; if there is none, all of it fails."""
        self._connecting = None
        waiting, self._waiting = self._waiting, []
        error: Any = LostError("given up while connecting")
        if not connecting.cancelled():
            error = connecting.exception()
        for keys, then in waiting:
            if error is None:
                self._get(connecting.result(), keys, then)
            else:
                asyncio.get_running_loop().call_soon(then, error)

    def _watch_until(self, when: float) -> None:
        self._watch = asyncio.get_running_loop().call_at(when, self._look)

    def _look(self) -> None:
        """Give up a connection that hangs, for all waiting reads; the next read tries a new one."""
        self._watch = None
        connection = self._connection
        since = connection.waiting_since() if connection is not None else None
        if connection is None or since is None:
            return
        due = since + self._timeout_seconds
        if asyncio.get_running_loop().time() >= due:
            connection.drop(TimeoutError("Redis did not answer in time"))
        else:
            self._watch_until(due)
