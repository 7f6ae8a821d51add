"""The transport's end of a connection: aiohttp's protocol, with a cap for strangers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from shared.protocol.limits import PREAUTH_FRAME_LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

PREAUTH_BUFFER_LIMIT_BYTES: Final = 2 * PREAUTH_FRAME_LIMIT_BYTES
"""What a socket may send before it is admitted: one full frame, and as much queued behind it."""


def _nothing() -> None:
    """Take no notice."""


class SocketProtocol(web.RequestHandler):
    """aiohttp's request handler, which also counts bytes until its socket is admitted.

    aiohttp takes one size limit for the whole life of a WebSocket, ours (contract §1) changes at
    admission; counting here, below the frame parser, keeps a stranger from making it buffer.
    """

    __slots__ = ("_guarded", "on_broken", "on_flood", "on_lost", "received")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.received = 0
        self.on_flood: Callable[[], None] = _nothing
        self.on_broken: Callable[[], None] = _nothing
        self.on_lost: Callable[[], None] = _nothing
        self._guarded = False

    def guard(
        self,
        *,
        on_flood: Callable[[], None],
        on_broken: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        """Count from now on, and tell what happens.

        `on_flood`: there is too much. `on_broken`: no more frames are read, and aiohttp closes as
        soon as the peer takes what was written. `on_lost`: the socket is gone.
        """
        self.received = 0
        self.on_flood = on_flood
        self.on_broken = on_broken
        self.on_lost = on_lost
        self._guarded = True

    def trust(self) -> None:
        """Stop counting: the socket is admitted."""
        self._guarded = False

    def data_received(self, data: bytes) -> None:
        """Take bytes from the transport."""
        if self._guarded:
            self.received += len(data)
            if self.received > PREAUTH_BUFFER_LIMIT_BYTES:
                self.on_flood()
                return
        super().data_received(data)

    def close(self) -> None:
        """Read no more: the parser met a broken frame, or the server ends."""
        super().close()
        self.on_broken()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Take notice that the transport is gone."""
        self.on_lost()
        self.on_flood = self.on_broken = self.on_lost = _nothing
        super().connection_lost(exc)
