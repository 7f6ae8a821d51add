"""Closes many connections without holding up the loop, and serves none of them meanwhile."""

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
"""How many are told in one turn of the loop that they are closed."""
ENDED_PER_TURN: Final = 64
"""How many sockets are ended in one turn: their peers' answers are read, or there are none."""


class CloseQueue:
    """Connections that are condemned: nothing is served any more, the close frame is to come.

    Reading a peer's answer and ending its socket takes longer than telling it. Where many are told,
    none is read until all have been, so that the last one hears soon. Those who never answer come
    last.
    """

    def __init__(self, close: Close) -> None:
        """Have nobody to close yet; `close` sends the frame."""
        self._close = close
        self._next: dict[Connection, tuple[int, str]] = {}
        self._unread: deque[Connection] = deque()
        self._silent: deque[Connection] = deque()
        self._spread: deque[tuple[Connection, int, str]] = deque()
        self._spread_until = 0.0

    def close_now(self, connections: Iterable[Connection], code: int, reason: str) -> int:
        """Close them in this turn of the loop and the next ones.

        Returns how many were not to be closed by an earlier call.
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
        """End the sockets of peers that did not answer, in this turn of the loop and the next."""
        busy = self._busy
        self._silent.extend(connections)
        if not busy:
            self._continue()

    def schedule(
        self, connections: Iterable[Connection], code: int, reason: str, *, until: float
    ) -> None:
        """Close them evenly over the sweeps up to then, a point in monotonic time."""
        for connection in connections:
            connection.condemned = True
            self._spread.append((connection, code, reason))
        self._spread_until = until

    def sweep(self, now: float) -> None:
        """Close the share of those spread over time that is due."""
        for _ in range(share_due(len(self._spread), now, self._spread_until)):
            self._send_close(*self._spread.popleft())

    @property
    def _busy(self) -> bool:
        """Whether there is more to do, and a turn of the loop to do it in is on its way."""
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
        """Close a connection, unless its peer is gone meanwhile: then it was let go of already."""
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
