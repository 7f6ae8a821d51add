"""The audit log as server-sent events, which can be resumed at any replica.

An event on the bus only wakes the listeners. Each then reads the log in Redis from its own
position, so nothing is repeated or skipped, and a lost message causes a delay of at most
POLL_SECONDS. Nothing is buffered for slow listeners; a listener that reads nothing for
WRITE_SECONDS is disconnected.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from aiohttp import web
from msgspec import UNSET

from services.approval.domain import records
from services.approval.domain.errors import StoreUnavailable
from services.approval.problems import LISTENERS, MALFORMED, RETRY_AFTER_SECONDS, ProblemError
from services.approval.storage.changes.changelog import Followed
from shared.rpc.messages import Position

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from services.approval.api.parameters import EventsQuery
    from services.approval.domain.authorization import Caller
    from services.approval.domain.records import AuditEntry
    from services.approval.metrics import Metrics
    from services.approval.registry.registry import Registry

LISTENERS_LIMIT: Final = 64
"""Max. listeners at one replica."""
ENTRIES_PER_READ: Final = 100
"""Max. entries read at once for a listener."""
POLL_SECONDS: Final = 1.0
"""Max. wait for an event on the bus before the log is read anyway."""
READS_APART_SECONDS: Final = 0.05
"""Min. time between two reads for a listener."""
HEARTBEAT_SECONDS: Final = 15.0
"""Interval of keep-alive comments on an idle stream."""
WRITE_SECONDS: Final = 10.0
"""A listener that reads nothing for this long is disconnected."""
RECONNECT_MS: Final = 1_000
"""Delay after which browsers reconnect."""

LAST_EVENT_ID: Final = "Last-Event-ID"
HEADERS: Final = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
HEARTBEAT: Final = b":\n\n"
_encode: Final = msgspec.json.Encoder().encode


class _Listener(NamedTuple):
    """Who reads a stream, and whether that is still allowed."""

    caller: Caller
    may_listen: Callable[[], Awaitable[bool]]


class _Wakeup:
    """Wakes all waiters. A waiter that took `next` before a ring does not miss it."""

    def __init__(self) -> None:
        self.next = asyncio.Event()

    def ring(self) -> None:
        woken, self.next = self.next, asyncio.Event()
        woken.set()


class Events:
    """Serves the listeners of one replica."""

    def __init__(
        self,
        registry: Registry,
        metrics: Metrics,
        *,
        listeners_limit: int = LISTENERS_LIMIT,
        poll_seconds: float = POLL_SECONDS,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        write_seconds: float = WRITE_SECONDS,
    ) -> None:
        self._registry = registry
        self._metrics = metrics
        self._limit = listeners_limit
        self._poll_seconds = poll_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._write_seconds = write_seconds
        self._wakeup = _Wakeup()
        self._listening = 0
        self._closing = False

    def wake(self) -> None:
        """Wake the listeners because something changed."""
        self._wakeup.ring()

    def close(self) -> None:
        """End all streams; listeners reconnect at another replica."""
        self._closing = True
        self._wakeup.ring()

    async def serve(
        self,
        request: web.Request,
        caller: Caller,
        after: int | None,
        may_listen: Callable[[], Awaitable[bool]],
    ) -> web.StreamResponse:
        """Stream the audit entries after a change number, or from now on.

        `may_listen` is checked before each read; the stream ends when it returns False. Raises
        ProblemError if there are too many listeners, StoreUnavailable if the first read fails.
        """
        if self._listening >= self._limit or self._closing:
            raise ProblemError(
                LISTENERS,
                "Use another replica, or poll /v1/audit.",
                {"Retry-After": str(RETRY_AFTER_SECONDS)},
            )
        self._count(1)
        try:
            place = await self._registry.present(caller) if after is None else Position(after)
            first = await self._registry.follow(caller, place, ENTRIES_PER_READ)
            response = web.StreamResponse(headers=HEADERS)
            await response.prepare(request)
            if request.method != "HEAD":
                with contextlib.suppress(ConnectionError):
                    await self._stream(request, response, first, _Listener(caller, may_listen))
        finally:
            self._count(-1)
        return response

    async def _stream(
        self,
        request: web.Request,
        response: web.StreamResponse,
        read: Followed,
        listener: _Listener,
    ) -> None:
        """Send what was read and continue, until the listener or the service ends the stream."""
        now = asyncio.get_running_loop().time
        data = b"retry: %d\nid: %d\n\n" % (RECONNECT_MS, read.at.number)
        written_at = now()
        woken = asyncio.Event()
        woken.set()  # read at once what happened since the first read
        while True:
            data += b"".join(_events(read))
            place = read.at
            if not data and now() - written_at >= self._heartbeat_seconds:
                data = HEARTBEAT
            if data:
                if not await self._write(request, response, data):
                    return
                data, written_at = b"", now()
            await asyncio.sleep(READS_APART_SECONDS)
            if len(read.entries) < ENTRIES_PER_READ:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), self._poll_seconds)
            if self._closing or request.transport is None or request.transport.is_closing():
                return
            woken = self._wakeup.next
            further = await self._read(place, listener)
            if further is None:
                return
            read = further

    async def _read(self, place: Position, listener: _Listener) -> Followed | None:
        """Read further entries, or return None if not allowed; no entries while Redis is away."""
        try:
            if not await listener.may_listen():
                return None
            return await self._registry.follow(listener.caller, place, ENTRIES_PER_READ)
        except StoreUnavailable:
            return Followed([], place)

    async def _write(self, request: web.Request, response: web.StreamResponse, data: bytes) -> bool:
        try:
            async with asyncio.timeout(self._write_seconds):
                await response.write(data)
        except TimeoutError:
            self._metrics.listeners_dropped.inc()
            if request.transport is not None:
                request.transport.abort()
            return False
        return True

    def _count(self, change: int) -> None:
        self._listening += change
        self._metrics.listeners.set(self._listening)


def _events(read: Followed) -> Iterator[bytes]:
    if read.lost:
        yield _event(read.at.number, "reset", {"id": read.at.number})
    for entry in read.entries:
        yield _event(entry.id, entry.action, entry)


def _event(number: int, name: str, data: AuditEntry | dict[str, int]) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, name.encode(), _encode(data))


def resumed_from(request: web.Request, query: EventsQuery) -> int | None:
    """Return the number after which an event stream starts, or None to start from now.

    The header has precedence, because a browser that reconnects repeats its original URL.
    """
    given = request.headers.getall(LAST_EVENT_ID, [])
    if not any(given):
        return None if query.after is UNSET else query.after
    try:
        return msgspec.convert(",".join(given), records.ChangeNumber, strict=False)
    except msgspec.ValidationError:
        raise ProblemError(MALFORMED, f"{LAST_EVENT_ID}: not an event id.") from None
