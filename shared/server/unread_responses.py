"""Limits responses that clients do not read, in time and in total bytes. Pure.

A socket whose client reads everything at once costs nothing here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.clock import Clock

PROGRESS_BYTES: Final = 16 * 1024
"""What a client must send of a body, or read of a response, within the stall time."""
UNREAD_LIMIT_BYTES: Final = 32 * 1024 * 1024
"""Bytes of responses that clients have not read, over all sockets."""


class Reader(Protocol):
    """The socket of a client that reads responses."""

    def abort(self) -> None:
        """Close the socket at once."""
        ...

    @property
    def unread_bytes(self) -> int:
        """Bytes of responses that the client has not read."""
        ...


class UnreadResponses:
    """The sockets of one service whose clients have not read everything.

    `count` is called with the reason of each socket that is closed, and `watch` when there is
    something to sweep.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        stall_seconds: float,
        count: Callable[[str], None],
        watch: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._stall_seconds = stall_seconds
        self._count = count
        self._watch = watch
        self._sockets: dict[Reader, tuple[float, int]] = {}
        """Until when each has to make progress, and how many bytes were unread before."""

    def __len__(self) -> int:
        return len(self._sockets)

    @property
    def bytes(self) -> int:
        """Bytes of responses that clients have not read, over all sockets."""
        return sum(socket.unread_bytes for socket in self._sockets)

    def paused(self, socket: Reader) -> None:
        """Note that a client has not read all of what was written."""
        until = self._clock.monotonic() + self._stall_seconds
        self._sockets[socket] = (until, socket.unread_bytes)
        self._watch()

    def resumed(self, socket: Reader) -> None:
        """Note that a client has read everything, or is gone."""
        self._sockets.pop(socket, None)

    def sweep(self) -> None:
        """Close sockets whose clients read too slowly, and those that hold too many bytes."""
        now = self._clock.monotonic()
        left = 0
        for socket, (until, before) in list(self._sockets.items()):
            unread = socket.unread_bytes
            if now < until:
                left += unread
            elif before - unread >= PROGRESS_BYTES:
                left += unread
                self._sockets[socket] = (now + self._stall_seconds, unread)
            else:
                self._close(socket)
        if left > UNREAD_LIMIT_BYTES:
            for socket in sorted(self._sockets, key=lambda socket: -socket.unread_bytes):
                left -= socket.unread_bytes
                self._close(socket)
                if left <= UNREAD_LIMIT_BYTES:
                    return

    def _close(self, socket: Reader) -> None:
        self._sockets.pop(socket, None)
        self._count("unread")
        socket.abort()
