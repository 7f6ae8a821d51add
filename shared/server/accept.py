"""Bulk accept: many sockets per loop iteration, so that their questions are batched.

uvloop's own servers accept one connection per iteration; then no two handshakes run in the same
iteration and nothing can be batched (docs/decisions/0002-bulk-accept.md).
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import math
import resource
import socket
import time
from asyncio import get_running_loop
from itertools import cycle
from socket import AF_INET, AF_INET6, MSG_DONTWAIT, MSG_PEEK, SOCK_STREAM
from typing import TYPE_CHECKING, Any, Final

from shared.server.listener_filter import ListenerFilter, has_left, queue_length, working_filter
from shared.server.passing_share import PassingShare
from shared.server.upgrade_limit import UPGRADES_MAX

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Sequence

ACCEPTED_PER_TURN: Final = 64
ACCEPTED_MAX: Final = 128
"""While the accept queue is long, a quarter of it is accepted per iteration, up to this number."""
EXHAUSTED_PAUSE_SECONDS: Final = 1.0
SPARE_DESCRIPTORS: Final = 256
"""Descriptors reserved for everything except client sockets."""

TURNING_AWAY_SHARE: Final = 0.2
"""How much of the time is spent on turning clients away; beyond, they wait in the backlog."""
TURNING_AWAY_MAX_SECONDS: Final = 0.010
"""The most time for that in one iteration of the loop."""
RETRY_AFTER_SECONDS: Final = range(2, 11)
"""The values of `Retry-After`, in turn: clients that were turned away together come back spread."""
ADJUST_SECONDS: Final = 0.020
"""How often the share of connections that the kernel lets through is adjusted."""
INHERITED_SECONDS: Final = 1.0
"""How long accepted sockets may still have a copy of the filter after it was removed."""
_PEEKED_BYTES: Final = 4096
_IPV4_ADDRESS_PARTS: Final = 2
"""Host and port; IPv6 addresses have two more parts."""
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_NOBODY_THERE: Final = (BlockingIOError, InterruptedError, ConnectionAbortedError)


def _try_later(seconds: int) -> bytes:
    text = "Too many clients connect at once\n"
    return (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Retry-After: {seconds}\r\n"
        f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}"
    ).encode()


TRY_LATER: Final = cycle([_try_later(seconds) for seconds in RETRY_AFTER_SECONDS])
"""Responses to clients that connect while too many others wait."""


def raise_descriptor_limit(wanted: int) -> int:
    """Raise the soft descriptor limit towards `wanted`; returns the limit in effect."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        soft = target
    return wanted if soft == resource.RLIM_INFINITY else soft


class _ClientSocket(socket.socket):
    """An accepted socket. Its family and type are plain numbers, which uvloop compares faster."""

    __slots__ = ()
    family = _socket.socket.family  # type: ignore[assignment]
    type = _socket.socket.type  # type: ignore[assignment]


class BulkAcceptor:
    """Accepts up to 64 sockets per loop iteration and passes each one to a new protocol.

    `accept` takes the peer's IP address and returns the protocol of the socket, or the response
    with which to reject it. `upgrades` returns how many upgrades wait, and how many may. When more
    wait than may, the kernel lets only a share of new connections through, and all whose requests
    begin with one of `always`. Without such a filter, or without `always`, excess upgrades are
    turned away, and `on_turned_away` is called for each; other requests are accepted. While the
    kernel filters, `answer` gets what a socket has sent if it begins with one of `always`; if
    `answer` returns a response, that is sent and the socket is closed.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        accept: Callable[[str], asyncio.BaseProtocol | bytes],
        on_exhausted: Callable[[], None],
        *,
        upgrades: Callable[[], tuple[int, int]] = lambda: (0, ACCEPTED_PER_TURN),
        on_turned_away: Callable[[], object] = lambda: None,
        always: Sequence[bytes] | None = None,
        answer: Callable[[bytes], bytes | None] = lambda _request: None,
    ) -> None:
        self._listeners = list(listeners)
        self._admit = accept
        self._on_exhausted = on_exhausted
        self._upgrades = upgrades
        self._on_turned_away = on_turned_away
        self._answer = answer
        self._always = tuple(always or ())
        self._filter = None if always is None else working_filter(listeners, always)
        self.filtered_seconds = 0.0
        """For how long only a share of new connections was let through."""
        self._adjusted_at = 0.0
        self._allowed = ACCEPTED_PER_TURN
        self._accepted = 0
        """Sockets accepted since the share was adjusted."""
        self._arrived = 0
        """Those of them that may become waiting upgrades."""
        self._passing = PassingShare()
        self._filtered_at = -math.inf
        """When a filter was last needed."""
        self._adjusting: asyncio.TimerHandle | None = None
        self._turned_away_at = 0.0
        self._loop = get_running_loop()
        self._connecting: list[tuple[Coroutine[Any, Any, object], asyncio.Future[object]]] = []
        """The coroutines that connect sockets to their protocols, and what each waits for."""
        self._resume: asyncio.TimerHandle | None = None
        self._accepting = False

    def start(self) -> None:
        """Start accepting."""
        self._accepting = True
        for listener in self._listeners:
            listener.setblocking(False)
            self._loop.add_reader(listener, self._accept, listener)

    def stop(self) -> None:
        """Stop accepting and close the listening sockets."""
        self._accepting = False
        for timer in (self._resume, self._adjusting):
            if timer is not None:
                timer.cancel()
        for listener in self._listeners:
            self._loop.remove_reader(listener)
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        waiting, limit = self._upgrades()
        filters = self._filter is not None and self._filter.works
        room = (UPGRADES_MAX if filters else limit) - waiting
        until = 0.0
        arrived = 0
        left = allowed = self._allowed
        while left and (accepted := self._next(listener)) is not None:
            sock, peer = accepted
            may_wait = True
            if self._filter is not None and self._filter.is_inherited:
                self._filter.release(sock)
                request = _peek(sock)
                if self._is_done(sock, request):
                    left -= 1
                    continue
                may_wait = not request.startswith(self._always)
            if room <= 0 and _wants_upgrade(sock):
                until = until or self._turning_away_until()
                self._on_turned_away()
                _turn_away(sock, next(TRY_LATER))
                if time.monotonic() >= until:
                    break
                continue
            room -= 1
            left -= 1
            protocol = self._admit(peer)
            if isinstance(protocol, bytes):
                _turn_away(sock, protocol)
                continue
            arrived += may_wait
            self._connect(sock, protocol)
        if until:
            self._turned_away_at = time.monotonic()
        self._accepted += allowed - left
        self._arrived += arrived
        if self._filter is not None and self._adjusting is None and (not left or waiting >= limit):
            self._accepted, self._arrived = allowed - left, arrived
            self._adjusted_at = time.monotonic()
            self._adjust(self._filter)

    def _connect(self, sock: socket.socket, protocol: asyncio.BaseProtocol) -> None:
        """Connect a socket to its protocol.

        The coroutine waits once, until the next iteration of the loop, so that driving it from here
        saves a task for each socket. It must run to completion; if it were garbage-collected
        earlier, it would close the socket.
        """
        connect = self._loop.connect_accepted_socket([protocol].pop, sock)
        try:
            connected = connect.send(None)
        except Exception:  # noqa: BLE001 (usually the client is gone; the other sockets go on)
            sock.close()
            return
        if not self._connecting:
            self._loop.call_soon(self._finish_connecting)
        self._connecting.append((connect, connected))

    def _finish_connecting(self) -> None:
        connecting, self._connecting = self._connecting, []
        for connect, connected in connecting:
            if connected.done():
                try:  # noqa: SIM105 (contextlib.suppress takes three calls)
                    connect.send(None)
                except Exception:  # noqa: BLE001, S110 (StopIteration, or the client is gone)
                    pass
            else:
                self._connecting.append((connect, connected))
        if self._connecting:
            self._loop.call_soon(self._finish_connecting)

    def _is_done(self, sock: socket.socket, request: bytes) -> bool:
        """Close a socket whose client has left, or whose request can be answered here."""
        if has_left(sock):
            sock.close()
            return True
        response = self._answer(request) if request.startswith(self._always) else None
        if response is None:
            return False
        with contextlib.suppress(OSError):
            sock.recv(_PEEKED_BYTES, MSG_DONTWAIT)
        _turn_away(sock, response)
        return True

    def _next(self, listener: socket.socket) -> tuple[socket.socket, str] | None:
        """Accept a socket; returns it and its peer's IP address, or None if there is none."""
        try:
            # socket.accept would make several enums for each socket.
            descriptor, address = listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001
        except _NOBODY_THERE:
            return None
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            self._pause()
            return None
        family = AF_INET if len(address) == _IPV4_ADDRESS_PARTS else AF_INET6
        return _ClientSocket(family, SOCK_STREAM, 0, descriptor), address[0]

    def _adjust(self, listener_filter: ListenerFilter) -> None:
        """Adjust the share of new connections that the kernel lets through, until all may pass."""
        self._adjusting = None
        if not self._accepting:
            return
        now = time.monotonic()
        passing = self._passing
        if passing.share < 1 and listener_filter.share is not None:
            self.filtered_seconds += now - self._adjusted_at
        self._adjusted_at = now
        waiting, limit = self._upgrades()
        queued = max(map(queue_length, self._listeners))
        accepted, arrived = self._accepted, self._arrived
        self._accepted = self._arrived = 0
        passing.adjust(
            now,
            waiting=waiting,
            limit=limit,
            queued=queued,
            accepted=accepted,
            arrived=arrived,
        )
        self._allowed = min(ACCEPTED_MAX, max(ACCEPTED_PER_TURN, queued // 4))
        if passing.is_needed(now):
            listener_filter.let_through(passing.share)
            self._filtered_at = now
        elif listener_filter.share is not None:
            listener_filter.remove()
        elif now - self._filtered_at > INHERITED_SECONDS and not queued:
            listener_filter.is_inherited = False
        if listener_filter.is_inherited or queued:
            self._adjusting = self._loop.call_later(ADJUST_SECONDS, self._adjust, listener_filter)

    def _turning_away_until(self) -> float:
        """Return until when clients may be turned away in this iteration of the loop."""
        now = time.monotonic()
        since = now - self._turned_away_at
        return now + min(TURNING_AWAY_MAX_SECONDS, since * TURNING_AWAY_SHARE)

    def _pause(self) -> None:
        """Stop accepting for a second when out of descriptors, to avoid a busy loop."""
        self._on_exhausted()
        for listener in self._listeners:
            self._loop.remove_reader(listener)
        if self._resume is None:
            self._resume = self._loop.call_later(EXHAUSTED_PAUSE_SECONDS, self._look_again)

    def _look_again(self) -> None:
        self._resume = None
        if self._accepting:
            self.start()


def _peek(sock: socket.socket) -> bytes:
    """Return what a socket has sent so far, without taking it."""
    try:
        return sock.recv(_PEEKED_BYTES, MSG_DONTWAIT | MSG_PEEK)
    except OSError:
        return b""


def _wants_upgrade(sock: socket.socket) -> bool:
    """Return whether a socket has sent a WebSocket upgrade, which is then taken from it, or left.

    Closing a socket with unread bytes would reset it, and the client would miss the response.
    """
    try:
        head = sock.recv(_PEEKED_BYTES, MSG_DONTWAIT | MSG_PEEK)
        if head and b"websocket" not in head.lower():
            return False
        sock.recv(_PEEKED_BYTES, MSG_DONTWAIT)
    except OSError:
        return False
    return True


def _turn_away(sock: socket.socket, answer: bytes) -> None:
    """Respond without reading and close at once; a distant peer may see a reset instead."""
    with contextlib.suppress(OSError):
        sock.send(answer, MSG_DONTWAIT)
    sock.close()
