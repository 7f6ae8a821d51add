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

CLOSED_PER_TURN: Final = 256
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
        self._to_close: dict[Connection, tuple[int, str]] = {}
        self._paused: deque[Connection] = deque()
        self._to_abort: deque[Connection] = deque()
        self._scheduled: deque[tuple[Connection, int, str]] = deque()
        self._scheduled_until = 0.0

    def close_now(self, connections: Iterable[Connection], code: int, reason: str) -> int:
        """Close connections in this turn of the event loop and the following ones.

        Returns how many were newly queued.
        """
        busy = self._busy
        before = len(self._to_close)
        for connection in connections:
            if connection.closed_with is not None:
                continue
            connection.stopped = True
            self._to_close.setdefault(connection, (code, reason))
        queued = len(self._to_close) - before
        if not busy:
            self._continue()
        return queued

    def abort(self, connections: Iterable[Connection]) -> None:
        """Abort the sockets of peers that did not reply, in this turn and the following ones."""
        busy = self._busy
        self._to_abort.extend(connections)
        if not busy:
            self._continue()

    def schedule(
        self, connections: Iterable[Connection], code: int, reason: str, *, until: float
    ) -> None:
        """Close connections evenly over the sweeps until `until` (monotonic seconds)."""
        for connection in connections:
            connection.stopped = True
            self._scheduled.append((connection, code, reason))
        self._scheduled_until = until

    def sweep(self, now: float) -> None:
        """Close the scheduled connections that are due in this sweep."""
        for _ in range(share_due(len(self._scheduled), now, self._scheduled_until)):
            self._send_close(*self._scheduled.popleft())

    @property
    def _busy(self) -> bool:
        """Whether work is left, so that a callback for the next turn is already scheduled."""
        return bool(self._to_close or self._paused or self._to_abort)

    def _continue(self) -> None:
        if self._to_close:
            self._close_batch()
        elif self._paused:
            self._resume_batch()
        else:
            self._abort_batch()
        if self._busy:
            asyncio.get_running_loop().call_soon(self._continue)

    def _close_batch(self) -> None:
        pause_reading = len(self._to_close) > CLOSED_PER_TURN or self._paused
        for connection in list(islice(self._to_close, CLOSED_PER_TURN)):
            self._send_close(connection, *self._to_close.pop(connection))
            if pause_reading and not connection.transport.is_closing():
                connection.transport.pause_reading()
                self._paused.append(connection)

    def _send_close(self, connection: Connection, code: int, reason: str) -> None:
        """Close a connection unless its transport has closed in the meantime."""
        if not connection.transport.is_closing():
            self._close(connection, code, reason)

    def _resume_batch(self) -> None:
        for _ in range(min(ENDED_PER_TURN, len(self._paused))):
            transport = self._paused.popleft().transport
            if not transport.is_closing():
                transport.resume_reading()

    def _abort_batch(self) -> None:
        for _ in range(min(ENDED_PER_TURN, len(self._to_abort))):
            self._to_abort.popleft().transport.abort()
