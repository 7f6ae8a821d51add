"""One connection to Redis, without a task and without streams: replies are taken as they come.

redis-py makes the connection (URL, TLS, login); from then on its transport is read here, because
redis-py's own way costs several times the work of a message.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import hiredis
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import InvalidResponse, ResponseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import ConnectionPool

CONNECT_SECONDS: Final = 2.0
"""How long making a connection may take, with TLS and login."""

_pack: Final[Any] = hiredis.pack_command  # its stub knows commands of one word only


class _Made(Protocol):
    """What is used of redis-py's Connection, which is not fully typed."""

    _writer: asyncio.StreamWriter | None

    async def connect(self) -> None: ...
    async def disconnect(self, nowait: bool = False) -> None: ...  # noqa: FBT001, FBT002


def pack(*words: str | bytes) -> bytes:
    """Encode one command."""
    packed: bytes = _pack(words)
    return packed


class Call:
    """Commands that were sent together: the replies so far, errors among them, and the end."""

    __slots__ = ("_most", "ended", "replies")

    def __init__(self, most: int, ended: asyncio.Future[None]) -> None:
        """Expect so many replies."""
        self._most = most
        self.replies: list[Any] = []
        self.ended = ended

    def take(self, reply: object) -> bool:
        """Take the next reply; whether it was the last."""
        self.replies.append(reply)
        complete = len(self.replies) == self._most
        if complete and not self.ended.done():
            self.ended.set_result(None)
        return complete


class Connection(asyncio.Protocol):
    """Either answers calls in their order, or hands all that comes to `listener`.

    It is lost for good at the first error, and when something comes that nobody asked for.
    """

    def __init__(self, made: _Made, listener: Callable[[Any], None] | None) -> None:
        """Take the connection over; `make_connection` does it."""
        self._made = made
        self._listener = listener
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=ResponseError)
        self._calls: deque[Call] = deque()
        self._loop = asyncio.get_running_loop()
        self._transport = cast("Any", made._writer).transport  # noqa: SLF001
        self._transport.set_protocol(self)
        self.error: Exception | None = None
        """Why it is lost, None while it is not."""
        self.lost: asyncio.Future[None] = self._loop.create_future()
        """Done once it is lost."""
        if self._transport.is_closing():
            self._lose(LostError("closed while it was made"))

    def send(self, data: bytes) -> None:
        """Send commands whose replies the listener takes; raises why it is lost, if it is."""
        self._write(data)

    def call(self, data: bytes, replies: int) -> Call:
        """Send packed commands and wait for so many replies; raises why it is lost, if it is."""
        if self.error is not None:
            raise self.error
        self._write(data)
        call = Call(replies, self._loop.create_future())
        self._calls.append(call)
        return call

    def drop(self, error: Exception) -> None:
        """Give it up at once, for this reason: calls under way fail with it."""
        self._lose(error)
        self._transport.abort()

    async def close(self) -> None:
        """Close it without waiting for anything."""
        self._lose(LostError("closed"))
        await self._made.disconnect(nowait=True)

    def data_received(self, data: bytes) -> None:
        """Take replies from the transport."""
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                self._take(reply)
        except Exception as error:  # noqa: BLE001  whatever it was, the connection is out of step
            self._lose(error)
            self._transport.abort()

    def eof_received(self) -> None:
        """Be told by the transport that Redis closed it."""
        self._lose(LostError("closed by Redis"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Be told by the transport that it is gone."""
        self._lose(exc or LostError("closed by Redis"))

    def _write(self, data: bytes) -> None:
        """Write; a transport that is closed already says so only here."""
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
            self._calls.popleft()

    def _lose(self, error: Exception) -> None:
        if self.error is not None:
            return
        self.error = error
        self.lost.set_result(None)
        calls, self._calls = self._calls, deque()
        for call in calls:
            if not call.ended.done():
                call.ended.set_exception(error)


async def make_connection(
    pool: ConnectionPool, listener: Callable[[Any], None] | None = None
) -> Connection:
    """Make a connection with the pool's settings, outside of the pool."""
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
