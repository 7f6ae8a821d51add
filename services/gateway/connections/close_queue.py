"""Closes many connections in small batches, so that the event loop is never blocked."""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final

from services.gateway.connections.deadlines import share_due

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from services.gateway.connections.connection import Connection

    Close = Callable[[Connection, int, str], None]

TOLD_PER_TURN: Final = 256
"""How many close frames are sent in one turn of the event loop."""
ENDED_PER_TURN: Final = 64
"""How many sockets are ended in one turn, by reading the peer's close frame or by aborting."""


class CloseQueue:
    """Connections that are to be closed: they are no longer served and await their close frame.

    Reading a peer's reply and ending its socket takes longer than sending the close frame. In a
    large batch, reading pauses until every close frame is sent, so that the last peer is not
    delayed. Sockets of peers that never reply are aborted last.
    """

    def __init__(self, close: Close) -> None:
        """Create an empty queue; `close` sends the close frame."""
        self._close = close
        self._next: dict[Connection, tuple[int, str]] = {}
        self._unread: deque[Connection] = deque()
        self._silent: deque[Connection] = deque()
        self._spread: deque[tuple[Connection, int, str]] = deque()
        self._spread_until = 0.0

    def close_now(self, connections: Iterable[Connection], code: int, reason: str) -> int:
        """Close connections in this turn of the event loop and the following ones.

        Returns how many were newly queued.
        """
        busy = self._busy
        before = len(self._next)
        for connection in connections:
            if connection.closed_with is not None:
                continue
            connection.condemned = True
            self._next.setdefault(connection, (code, reason))
        begun = len(self._next) - before
        if not busy:
            self._continue()
        return begun

    def abort(self, connections: Iterable[Connection]) -> None:
        """Abort the sockets of peers that did not reply, in this turn and the following ones."""
        busy = self._busy
        self._silent.extend(connections)
        if not busy:
            self._continue()

    def schedule(
        self, connections: Iterable[Connection], code: int, reason: str, *, until: float
    ) -> None:
        """Close connections evenly over the sweeps until `until` (monotonic seconds)."""
        for connection in connections:
            connection.condemned = True
            self._spread.append((connection, code, reason))
        self._spread_until = until

    def sweep(self, now: float) -> None:
        """Close the scheduled connections that are due in this sweep."""
        for _ in range(share_due(len(self._spread), now, self._spread_until)):
            self._send_close(*self._spread.popleft())

    @property
    def _busy(self) -> bool:
        """Whether work is left, so that a callback for the next turn is already scheduled."""
        return bool(self._next or self._unread or self._silent)

    def _continue(self) -> None:
        if self._next:
            self._send_some()
        elif self._unread:
            self._read_some()
        else:
            self._abort_some()
        if self._busy:
            asyncio.get_running_loop().call_soon(self._continue)

    def _send_some(self) -> None:
        many = len(self._next) > TOLD_PER_TURN or self._unread
        for connection in list(islice(self._next, TOLD_PER_TURN)):
            self._send_close(connection, *self._next.pop(connection))
            if many and not connection.transport.is_closing():
                connection.transport.pause_reading()
                self._unread.append(connection)

    def _send_close(self, connection: Connection, code: int, reason: str) -> None:
        """Close a connection unless its transport has closed in the meantime."""
        if not connection.transport.is_closing():
            self._close(connection, code, reason)

    def _read_some(self) -> None:
        for _ in range(min(ENDED_PER_TURN, len(self._unread))):
            transport = self._unread.popleft().transport
            if not transport.is_closing():
                transport.resume_reading()

    def _abort_some(self) -> None:
        for _ in range(min(ENDED_PER_TURN, len(self._silent))):
            self._silent.popleft().transport.abort()
