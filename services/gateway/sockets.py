"""The transport's end of a connection: aiohttp's protocol, with a cap for strangers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from aiohttp import web

from shared.protocol.closing import CloseCode
from shared.protocol.limits import PREAUTH_FRAME_LIMIT_BYTES

if TYPE_CHECKING:
    from asyncio import BaseTransport
    from collections.abc import Callable

    from services.gateway.arrivals import Arrivals

PREAUTH_BUFFER_LIMIT_BYTES: Final = 2 * PREAUTH_FRAME_LIMIT_BYTES
"""What a socket may send before it is admitted: one full frame, and as much queued behind it."""


def _nothing() -> None:
    """Take no notice."""


class SocketProtocol(web.RequestHandler):
    """aiohttp's request handler, which also counts bytes until its socket is admitted.

    aiohttp takes one size limit for the whole life of a WebSocket, ours (contract §1) changes at
    admission; counting here, below the frame parser, keeps a stranger from making it buffer.
    """

    __slots__ = ("_arrivals", "_guarded", "on_flood", "on_lost", "received")

    def __init__(self, *args: Any, arrivals: Arrivals, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._arrivals = arrivals
        self.received = 0
        self.on_flood: Callable[[], None] = _nothing
        self.on_lost: Callable[[], None] = _nothing
        self._guarded = False

    def asked(self) -> None:
        """Take notice that a request is complete."""
        self._arrivals.done(self)

    def connection_made(self, transport: BaseTransport) -> None:
        """Take notice that the socket is open."""
        super().connection_made(transport)
        self._arrivals.came(self)

    def guard(self, *, on_flood: Callable[[], None], on_lost: Callable[[], None]) -> None:
        """Count from now on; `on_flood` once it is too much, `on_lost` when the socket is gone."""
        self.received = 0
        self.on_flood = on_flood
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

    def connection_lost(self, exc: BaseException | None) -> None:
        """Take notice that the transport is gone."""
        self._arrivals.done(self)
        self.on_lost()
        self.on_flood = self.on_lost = _nothing
        super().connection_lost(exc)


class Socket(web.WebSocketResponse[Literal[False]]):
    """aiohttp's WebSocket, which leaves closing to Connections.

    aiohttp closes by itself when it meets a broken frame, and waits without a bound for the peer to
    take what was written to it.
    """

    def __init__(self, *, message_limit_bytes: int) -> None:
        super().__init__(
            autoclose=False,
            autoping=False,
            compress=False,
            max_msg_size=message_limit_bytes,
            decode_text=False,
        )

    async def close(
        self,
        *,
        code: int = CloseCode.NORMAL,  # noqa: ARG002 (aiohttp's signature)
        message: bytes = b"",  # noqa: ARG002 (as above)
        drain: bool = True,  # noqa: ARG002 (as above)
    ) -> bool:
        """Do nothing."""
        return False
