"""aiohttp's request handler, extended to report the state of its socket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web
from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD

from shared.addresses.client import client_address
from shared.server.known_operators import Rank
from shared.server.plain_requests import RETRY_AFTER_SECONDS, WAITING_BODY_BYTES
from shared.server.socket_limiter import TRUSTED
from shared.server.strict_http import SERVER_NAME, StrictParser, status_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

    from aiohttp.streams import StreamReader

    from shared.server.plain_requests import PlainRequests, Ticket
    from shared.server.socket_limiter import PendingSocket, SocketLimiter
    from shared.settings.environment import Network

KEEPALIVE_SECONDS: Final = 20.0
"""Idle timeout of plain HTTP connections.

aiohttp's client and scrapers reuse connections for up to 15 s.
"""
PROXY_KEEPALIVE_SECONDS: Final = 75.0
"""Idle timeout for a trusted proxy: longer than proxies keep connections for reuse."""
MALFORMED: Final = "The request is malformed, or not served here\n"
"""The body of every response to an unparsable request, none of which is echoed."""
PARSED_AHEAD: Final = 1
"""Pipelined requests that are parsed while another is served; the rest stays unread."""
HEAD_LIMIT_BYTES: Final = 32 * 1024
"""The longest head of a request."""
LINGER_SECONDS: Final = 1.0
"""How long the rest of a body is read after its response, so that the client sees the response."""
_LINE_LIMIT_BYTES: Final = 8190
_HEADERS_LIMIT: Final = 128
_BODY_BUFFER_BYTES: Final = 2**16


def _closing(status: str, text: str) -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(text)}\r\nConnection: close\r\n"
        f"Server: {SERVER_NAME}\r\n\r\n{text}"
    ).encode()


BODY_TOO_SLOW: Final = _closing("408 Request Timeout", "The body did not arrive in time\n")
HEAD_TOO_LARGE: Final = _closing("431 Request Header Fields Too Large", MALFORMED)
BUSY: Final = "Too many requests are in progress\n"
"""The body of the response to a request that waited too long for its turn."""


def busy_response() -> web.Response:
    """Return the response to a request that waited too long for its turn."""
    return web.Response(status=503, text=BUSY, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


def keepalive_seconds(key: str) -> float:
    """Return the idle timeout of a socket, by the key under which it is counted."""
    return PROXY_KEEPALIVE_SECONDS if key == TRUSTED else KEEPALIVE_SECONDS


class TrackedRequestHandler(web.RequestHandler):
    """aiohttp's request handler, which reports the start and the end of each request.

    It parses one request ahead. With `schedule`, its requests wait for their turn.
    """

    __slots__ = (
        "_flow",
        "_head_bytes",
        "_key",
        "_limiter",
        "_payload",
        "_place",
        "_received",
        "_schedule",
        "_ticket",
        "_trusted_proxies",
    )

    def __init__(self, manager: web.Server, **kwargs: Any) -> None:
        super().__init__(manager, lingering_time=LINGER_SECONDS, **kwargs)
        self._flow: asyncio.Protocol | None = None
        self._max_msg_queue_size = PARSED_AHEAD
        self._msg_queue_resume_size = 0
        parser = HttpRequestParser(
            cast("Any", self),
            self._loop,
            _BODY_BUFFER_BYTES,
            max_line_size=_LINE_LIMIT_BYTES,
            max_field_size=_LINE_LIMIT_BYTES,
            max_headers=_HEADERS_LIMIT,
            payload_exception=web.RequestPayloadError,
            max_msg_queue_size=PARSED_AHEAD,
        )
        self._parser = cast("Any", StrictParser(parser))
        self._limiter: SocketLimiter | None = None
        self._place: PendingSocket = self
        self._schedule: PlainRequests | None = None
        self._key = TRUSTED
        self._trusted_proxies: tuple[Network, ...] = ()
        self._ticket: Ticket | None = None
        self._received = 0
        self._head_bytes = 0
        self._payload: StreamReader = EMPTY_PAYLOAD

    def take_place(self, limiter: SocketLimiter, place: PendingSocket) -> None:
        """Report the socket's state to `limiter`, which knows it as `place`."""
        self._limiter = limiter
        self._place = place

    def schedule(
        self, requests: PlainRequests, key: str, trusted_proxies: tuple[Network, ...]
    ) -> None:
        """Let requests wait for their turn; `key` is the one the socket's address counts by."""
        self._schedule = requests
        self._key = key
        self._trusted_proxies = trusted_proxies

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Handle an open socket, which may have been evicted meanwhile."""
        super().connection_made(transport)
        # Without a write buffer, a response counts as written once the kernel has all of it.
        cast("asyncio.Transport", transport).set_write_buffer_limits(high=0)
        if self._limiter is not None and self._place not in self._limiter:
            self.abort()

    def data_received(self, data: bytes) -> None:
        """Parse what was received."""
        self._received += len(data)
        payload = self._payload
        in_body = not payload.is_eof()
        super().data_received(data)
        if in_body and payload.is_eof() and not self._messages and not self._upgraded:
            # The parser stops after each request. Nothing else would make it look at the next one,
            # which it may hold already.
            super().data_received(b"")
        if self._messages:
            self._payload = self._messages[-1][1]
            self._head_bytes = 0
        elif data and not in_body and self._waiter is not None and self._payload_parser is None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT_BYTES:
                self.reject(HEAD_TOO_LARGE)

    def _handle_request(
        self,
        request: web.BaseRequest,
        start_time: float | None,
        request_handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """Serve a request when its turn has come; usually that is at once."""
        requests = self._schedule
        if requests is not None:
            ticket = self._ticket = self._enter(requests, request)
            if ticket.turn is not None or ticket.refused:
                return self._handle_in_turn(ticket, request, start_time, request_handler)
        return super()._handle_request(request, start_time, request_handler)

    async def _handle_in_turn(
        self,
        ticket: Ticket,
        request: web.BaseRequest,
        start_time: float | None,
        request_handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    ) -> tuple[web.StreamResponse, bool]:
        try:
            if ticket.turn is not None:
                self.request_started()
                await ticket.turn
            if ticket.refused:
                request_handler = self._refuse
            return await super()._handle_request(request, start_time, request_handler)
        finally:
            self.leave_schedule()

    def _enter(self, requests: PlainRequests, request: web.BaseRequest) -> Ticket:
        key, headers = self._key, request.headers
        if key == TRUSTED and self._trusted_proxies:
            where = client_address(request.remote or "", headers, self._trusted_proxies)
            key = where.address.limit_key
        is_health = request.raw_path in requests.health_paths
        rank = Rank.HEALTH if is_health else requests.operators.rank_of(key, headers)
        length = request.content_length
        large = not request.content.is_eof() if length is None else length > WAITING_BODY_BYTES
        return requests.enter(self, key, rank, large_body=large)

    async def _refuse(self, _request: web.BaseRequest) -> web.StreamResponse:
        if self._schedule is None:
            return busy_response()
        response = self._schedule.refusal()
        response.headers["Server"] = SERVER_NAME
        response.force_close()
        return response

    def leave_schedule(self) -> None:
        """Continue a response for as long as it takes, under a limit of its own."""
        ticket, self._ticket = self._ticket, None
        if self._schedule is not None and ticket is not None:
            self._schedule.leave(ticket)

    def note_operator(self, request: web.Request) -> None:
        """Note that the request's credentials are valid."""
        if self._limiter is not None:
            self._limiter.protect(self._place)
        schedule, ticket = self._schedule, self._ticket
        if schedule is not None and ticket is not None:
            if ticket.rank is Rank.ANONYMOUS:
                schedule.protect(ticket)
            schedule.operators.remember(ticket.key, request.headers)

    def note_locked_out(self) -> None:
        """Note that the client's address may not try credentials."""
        if self._schedule is not None and self._ticket is not None:
            self._schedule.operators.forget(self._ticket.key)

    @property
    def expects_body(self) -> bool:
        """Whether the client has to send more of a request's body."""
        request = self._current_request
        return not (request is None or self._reading_paused or request.content.is_eof())

    @property
    def received_bytes(self) -> int:
        """All bytes received so far."""
        return self._received

    @property
    def unread_bytes(self) -> int:
        """Bytes of responses that the client has not read."""
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def stalled_body(self) -> None:
        """Close the socket, because the body of its request does not arrive."""
        request = self._current_request
        # aiohttp's type of a response's writer lacks the counter that its implementation has.
        if request is None or cast("Any", request.writer).output_size:
            self.abort()
        else:
            self.reject(BODY_TOO_SLOW)

    def forward_flow_control(self, protocol: asyncio.Protocol) -> None:
        """Also notify this protocol when the peer stops or resumes reading."""
        self._flow = protocol
        if self.transport is not None:
            self.transport.set_write_buffer_limits()

    def pause_writing(self) -> None:
        """Note that the peer has stopped reading."""
        super().pause_writing()
        if self._flow is not None:
            self._flow.pause_writing()
        elif self._schedule is not None:
            self._schedule.unread.paused(self)

    def resume_writing(self) -> None:
        """Note that the peer reads again."""
        super().resume_writing()
        if self._flow is not None:
            self._flow.resume_writing()
        if self._schedule is not None:
            self._schedule.unread.resumed(self)

    def request_started(self) -> None:
        """Note that a complete request was received."""
        if self._limiter is not None:
            self._limiter.request_started(self._place)

    def left(self) -> None:
        """Note that the socket was upgraded to a WebSocket or closed."""
        self.leave_schedule()
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
        try:
            finished = await super().finish_response(*args, **kwargs)
        finally:
            self.leave_schedule()
        if self._limiter is not None:
            self._limiter.request_finished(self._place)
        return finished

    def connection_lost(self, exc: BaseException | None) -> None:
        """Handle the loss of the transport."""
        self.left()
        if self._schedule is not None:
            self._schedule.unread.resumed(self)
        super().connection_lost(exc)


def note_request(request: web.Request) -> None:
    """Tell a request's socket that a complete request was received."""
    if isinstance(request.protocol, TrackedRequestHandler):
        request.protocol.request_started()


def note_operator(request: web.Request) -> None:
    """Note that a request's credentials are valid: it and the next ones have priority."""
    if isinstance(request.protocol, TrackedRequestHandler):
        request.protocol.note_operator(request)


def note_locked_out(request: web.Request) -> None:
    """Note that the address of a request may not try credentials."""
    if isinstance(request.protocol, TrackedRequestHandler):
        request.protocol.note_locked_out()


def leave_schedule(request: web.Request) -> None:
    """Continue a response for as long as it takes, under a limit of its own."""
    if isinstance(request.protocol, TrackedRequestHandler):
        request.protocol.leave_schedule()


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
