"""A socket that aiohttp serves, and what it tells of itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from shared.server.connection_limiter import TRUSTED
from shared.server.strict_http import SERVER_NAME, StrictParser, status_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterable

    from shared.server.pending_sockets import PendingSocket, PendingSockets

KEEPALIVE_SECONDS: Final = 20.0
"""How long a connection of plain HTTP may stay idle: longer than clients keep it that use it again
in 15 s, such as aiohttp's and scrapes."""
PROXY_KEEPALIVE_SECONDS: Final = 75.0
"""The same for a trusted proxy: longer than proxies keep what they may use again."""
MALFORMED: Final = "The request is malformed, or not served here\n"
"""The body of every answer to what could not be parsed: nothing of it is sent back."""


def keepalive_seconds(key: str) -> float:
    """Return how long a socket may stay idle, by the key that it counts under."""
    return PROXY_KEEPALIVE_SECONDS if key == TRUSTED else KEEPALIVE_SECONDS


class TrackedRequestHandler(web.RequestHandler):
    """aiohttp's own protocol, which says when it is asked, and when it has answered."""

    __slots__ = ("_arrivals", "_place")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        parser: Any = StrictParser(cast("Any", self._parser))
        self._parser = parser
        self._arrivals: PendingSockets | None = None
        self._place: PendingSocket = self

    def take_place(self, arrivals: PendingSockets, place: PendingSocket) -> None:
        """Tell `arrivals` what becomes of this socket, which they know as `place`."""
        self._arrivals = arrivals
        self._place = place

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take notice that the socket is open; it may have lost its place meanwhile."""
        super().connection_made(transport)
        if self._arrivals is not None and self._place not in self._arrivals:
            self.abort()

    def request_started(self) -> None:
        """Take notice that a request is complete."""
        if self._arrivals is not None:
            self._arrivals.request_started(self._place)

    def left(self) -> None:
        """Take notice that this is a WebSocket now, or gone."""
        arrivals, self._arrivals = self._arrivals, None
        if arrivals is not None:
            arrivals.remove(self._place)

    @property
    def is_open(self) -> bool:
        """Whether its transport is there."""
        return self.transport is not None

    def abort(self) -> None:
        """End the socket."""
        if self.transport is not None:
            self.transport.abort()

    def reject(self, answer: bytes) -> None:
        """End the socket with an answer."""
        if self.transport is not None:
            self.transport.write(answer)
            self.transport.close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be parsed, or what a handler failed at, and close."""
        if isinstance(exc, HttpProcessingError):
            status, message = status_of(exc), MALFORMED
        response = super().handle_error(request, status, exc, message)
        response.headers["Server"] = SERVER_NAME
        return response

    async def finish_response(self, *args: Any, **kwargs: Any) -> tuple[web.StreamResponse, bool]:
        """Take notice that a request is answered."""
        finished = await super().finish_response(*args, **kwargs)
        if self._arrivals is not None:
            self._arrivals.request_finished(self._place)
        return finished

    def connection_lost(self, exc: BaseException | None) -> None:
        """Take notice that the transport is gone."""
        self.left()
        super().connection_lost(exc)


@web.middleware
async def notice_asked(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Tell the socket that a request is here."""
    if isinstance(request.protocol, TrackedRequestHandler):
        request.protocol.request_started()
    return await handler(request)


async def name_server(_request: web.Request, response: web.StreamResponse) -> None:
    """Say who serves, in place of aiohttp and its version (a signal of on_response_prepare)."""
    response.headers["Server"] = SERVER_NAME


async def serve_plainly(
    runner: web.AppRunner, listeners: Iterable[socket.socket]
) -> list[asyncio.Server]:
    """Serve an application on these sockets; the runner is set up. Close what is returned."""
    loop = asyncio.get_running_loop()
    server = runner.server
    if server is None:
        message = "the runner has no server"
        raise RuntimeError(message)

    def protocol() -> TrackedRequestHandler:
        return TrackedRequestHandler(server, loop=loop, access_log=None)

    return [await loop.create_server(protocol, sock=listener) for listener in listeners]
