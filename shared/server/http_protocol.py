"""aiohttp's request handler, extended to report the state of its socket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from shared.server.socket_limiter import TRUSTED
from shared.server.strict_http import SERVER_NAME, StrictParser, status_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

    from shared.server.socket_limiter import PendingSocket, SocketLimiter

KEEPALIVE_SECONDS: Final = 20.0
"""Idle timeout of plain HTTP connections.

aiohttp's client and scrapers reuse connections for up to 15 s.
"""
PROXY_KEEPALIVE_SECONDS: Final = 75.0
"""Idle timeout for a trusted proxy: longer than proxies keep connections for reuse."""
MALFORMED: Final = "The request is malformed, or not served here\n"
"""The body of every response to an unparsable request, none of which is echoed."""


def keepalive_seconds(key: str) -> float:
    """Return the idle timeout of a socket, by the key under which it is counted."""
    return PROXY_KEEPALIVE_SECONDS if key == TRUSTED else KEEPALIVE_SECONDS


class TrackedRequestHandler(web.RequestHandler):
    """aiohttp's request handler, which reports the start and the end of each request."""

    __slots__ = ("_flow", "_limiter", "_place")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._flow: asyncio.Protocol | None = None
        parser: Any = StrictParser(cast("Any", self._parser))
        self._parser = parser
        self._limiter: SocketLimiter | None = None
        self._place: PendingSocket = self

    def take_place(self, limiter: SocketLimiter, place: PendingSocket) -> None:
        """Report the socket's state to `limiter`, which knows it as `place`."""
        self._limiter = limiter
        self._place = place

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Handle an open socket, which may have been evicted meanwhile."""
        super().connection_made(transport)
        if self._limiter is not None and self._place not in self._limiter:
            self.abort()

    def forward_flow_control(self, protocol: asyncio.Protocol) -> None:
        """Also notify this protocol when the peer stops or resumes reading."""
        self._flow = protocol

    def pause_writing(self) -> None:
        """Note that the peer has stopped reading."""
        super().pause_writing()
        if self._flow is not None:
            self._flow.pause_writing()

    def resume_writing(self) -> None:
        """Note that the peer reads again."""
        super().resume_writing()
        if self._flow is not None:
            self._flow.resume_writing()

    def request_started(self) -> None:
        """Note that a complete request was received."""
        if self._limiter is not None:
            self._limiter.request_started(self._place)

    def left(self) -> None:
        """Note that the socket was upgraded to a WebSocket or closed."""
        limiter, self._limiter = self._limiter, None
        if limiter is not None:
            limiter.remove(self._place)

    @property
    def is_open(self) -> bool:
        """Whether the transport is open."""
        return self.transport is not None

    def abort(self) -> None:
        """Abort the socket."""
        if self.transport is not None:
            self.transport.abort()

    def reject(self, answer: bytes) -> None:
        """Send a response and close the socket."""
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
        """Respond to an unparsable request or a failed handler, and close the connection."""
        if isinstance(exc, HttpProcessingError):
            status, message = status_of(exc), MALFORMED
        response = super().handle_error(request, status, exc, message)
        response.headers["Server"] = SERVER_NAME
        return response

    async def finish_response(self, *args: Any, **kwargs: Any) -> tuple[web.StreamResponse, bool]:
        """Note that a request has been answered."""
        finished = await super().finish_response(*args, **kwargs)
        if self._limiter is not None:
            self._limiter.request_finished(self._place)
        return finished

    def connection_lost(self, exc: BaseException | None) -> None:
        """Handle the loss of the transport."""
        self.left()
        super().connection_lost(exc)


def note_request(request: web.Request) -> None:
    """Tell a request's socket that a complete request was received."""
    if isinstance(request.protocol, TrackedRequestHandler):
        request.protocol.request_started()


async def name_server(_request: web.Request, response: web.StreamResponse) -> None:
    """Set the Server header without aiohttp's name and version (signal on_response_prepare)."""
    response.headers["Server"] = SERVER_NAME


async def serve_plainly(
    runner: web.AppRunner, listeners: Iterable[socket.socket]
) -> list[asyncio.Server]:
    """Serve an application on these sockets.

    The runner must be set up, and the caller closes the returned servers.
    """
    loop = asyncio.get_running_loop()
    server = runner.server
    if server is None:
        message = "the runner has no server"
        raise RuntimeError(message)

    def protocol() -> TrackedRequestHandler:
        return TrackedRequestHandler(server, loop=loop, access_log=None)

    return [await loop.create_server(protocol, sock=listener) for listener in listeners]
