"""Forwards plain HTTP requests that the gateway does not serve itself, streaming both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from services.gateway.dashboard.negotiation import wants_html
from services.gateway.dashboard.paths import below
from services.gateway.handshake.origin import origin_problem
from services.gateway.relay.http import away_page
from services.gateway.relay.http.bearers import BearerLockedOut, Holder, Undecided
from services.gateway.relay.http.body import PAUSE_SECONDS, RequestBody
from services.gateway.relay.http.connections import (
    CONNECTIONS_LIMIT,
    Displaced,
    NoConnectionFree,
    UpstreamConnections,
)
from services.gateway.relay.rules.headers import (
    CLIENT_USER,
    ForwardedClient,
    forwarded_headers,
    identity_headers,
    scopes_header,
)
from services.gateway.relay.rules.http import Access, access_of, request_headers, response_headers
from shared.addresses.client import client_address, over_https
from shared.observability.ops import json_response
from shared.server.http_protocol import note_locked_out, note_operator

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Mapping

    from services.gateway.handshake.outcome import AuthConfig
    from services.gateway.metrics import Metrics
    from services.gateway.relay.http.bearers import Bearers
    from services.gateway.relay.relay import Relay
    from shared.addresses.client import ClientAddress
    from shared.settings.environment import Network

CONNECT_SECONDS: Final = 2.0
"""How long connecting to the upstream may take."""
SILENCE_SECONDS: Final = 120.0
"""How long the upstream may say nothing in an answer: longer than event streams pause."""
_HEADER_LIMIT_BYTES: Final = 32 * 1024
"""Cap on each header of the upstream's answer."""
_NOT_ADDED: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that the HTTP client would make up where the request has none."""
_NOT_FOUND: Final = "Not Found"
_TOO_MANY: Final = "Too many requests are in progress\n"
_BODY_BROKEN: Final = "The body of the request is malformed or incomplete\n"
_BODY_PAUSED: Final = "The body did not arrive in time\n"


class RelayHttp:
    """Forwards requests to the upstream and streams its responses back."""

    def __init__(
        self,
        relay: Relay,
        bearers: Bearers,
        rules: AuthConfig,
        *,
        metrics: Metrics,
        trusted_proxies: tuple[Network, ...],
        prefix: str = "",
        pause_seconds: float = PAUSE_SECONDS,
        connections: UpstreamConnections | None = None,
    ) -> None:
        self._relay = relay
        self._upstream = relay.upstream
        self._bearers = bearers
        self._rules = rules
        self._requests = metrics.upstream_requests
        self._dropped = metrics.plain_http.dropped
        self._trusted_proxies = trusted_proxies
        self._prefix = prefix
        self._pause_seconds = pause_seconds
        self._connections = UpstreamConnections() if connections is None else connections
        self._session: aiohttp.ClientSession | None = None

    @property
    def contexts(self) -> list[Callable[[web.Application], AsyncIterator[None]]]:
        """Return the contexts to enter while the application runs."""
        return [self._run, self._relay.status.run]

    async def _run(self, _app: web.Application) -> AsyncIterator[None]:
        """Serve while the application runs, then close all connections of the relay."""
        tls: ssl.SSLContext | bool = self._upstream.tls or True
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_LIMIT, ssl=tls),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS
            ),
            max_line_size=_HEADER_LIMIT_BYTES,
            max_field_size=_HEADER_LIMIT_BYTES,
        ) as self._session:
            yield
        await self._relay.pipes.stop()
        await self._upstream.stop()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer a request for a path that this gateway does not serve itself."""
        target = request.raw_path
        path, query = _parted(target)
        if self._prefix and path == self._prefix:
            return web.Response(status=308, headers={"Location": f"{self._prefix}/"})
        path = below(path, self._prefix)
        access = access_of(path) if target.isascii() else Access.NOWHERE
        if access is Access.NOWHERE:
            return web.Response(status=404, text=_NOT_FOUND)
        where = client_address(request.remote or "", request.headers, self._trusted_proxies)
        headers = await self._headers_to_send(request, access, where)
        if isinstance(headers, web.Response):
            return headers
        body = RequestBody(request.content, pause_seconds=self._pause_seconds)
        try:
            await body.read_head()
        except (web.RequestPayloadError, ConnectionError):
            return _closing(400, _BODY_BROKEN)
        return await self._in_turn(request, path + query, headers, body, where.address.limit_key)

    async def _headers_to_send(
        self, request: web.Request, access: Access, where: ClientAddress
    ) -> CIMultiDict[str] | web.Response:
        """Return the headers for the upstream, or a response to a request that is not passed on."""
        origin = request.headers.get("Origin")
        accepted = origin is not None and self._accepts_origin(origin, request.host, where)
        headers = self._headers(request, where, origin if accepted else None)
        authorization = request.headers.get("Authorization", "")
        if access is Access.WITH_IDENTITY and authorization:
            if origin is not None and not accepted:
                return _problem(403, "origin_not_allowed", "This page may not use the gateway")
            identity = await self._identity(authorization, where, from_page=origin is not None)
            _note_identity(request, identity)
            if isinstance(identity, web.Response):
                return identity
            headers.extend(identity)
        return headers

    async def _identity(
        self, authorization: str, where: ClientAddress, *, from_page: bool
    ) -> list[tuple[str, str]] | web.Response:
        """Return the identity headers for a bearer token; none for a wrong one."""
        trusted = self._rules.trusts_local and where.direct_loopback and not from_page
        verdict = await self._bearers.judge(authorization, where.address.text, trusted=trusted)
        if isinstance(verdict, BearerLockedOut):
            self._requests.labels("locked-out").inc()
            seconds = max(1, -(-verdict.retry_after_ms // 1000))
            return _problem(
                429, "rate_limited", "Too many wrong secrets", {"Retry-After": str(seconds)}
            )
        if isinstance(verdict, Undecided):
            self._requests.labels("undecided").inc()
            return _problem(
                503, "unavailable", "Nobody can say whether it is valid", {"Retry-After": "2"}
            )
        if isinstance(verdict, Holder):
            return [
                *identity_headers(self._upstream.names, CLIENT_USER),
                scopes_header(verdict.scopes),
            ]
        return []

    def _accepts_origin(self, origin: str, host: str, where: ClientAddress) -> bool:
        allowed = self._rules.allowed_origins
        problem = origin_problem(origin, host, allowed, direct_loopback=where.direct_loopback)
        return problem is None

    def _headers(
        self, request: web.Request, where: ClientAddress, origin: str | None
    ) -> CIMultiDict[str]:
        client = ForwardedClient(
            address=where.address.text,
            loopback=where.address.loopback,
            secure=over_https(request.remote or "", request.headers, self._trusted_proxies),
            host=request.headers.get("Host", ""),
            origin=origin,
        )
        headers = CIMultiDict(forwarded_headers(client))
        own = request.headers
        headers.extend(request_headers(own.items(), ",".join(own.getall("Connection", ()))))
        if request.body_exists and request.content_length is not None:
            headers["Content-Length"] = str(request.content_length)
        return headers

    async def _in_turn(
        self,
        request: web.Request,
        target: str,
        headers: CIMultiDict[str],
        body: RequestBody,
        limit_key: str,
    ) -> web.StreamResponse:
        """Pass a request on as soon as a connection to the upstream is free for its address."""
        try:
            async with self._connections.use(limit_key):
                return await self._pass_on(request, target, headers, body)
        except NoConnectionFree:
            self._requests.labels("too-many").inc()
            return web.Response(status=503, text=_TOO_MANY, headers={"Retry-After": "1"})
        except Displaced:
            self._dropped("displaced")
            if request.transport is not None:
                request.transport.abort()
            return _closing(503, _TOO_MANY)

    async def _pass_on(
        self, request: web.Request, target: str, headers: CIMultiDict[str], body: RequestBody
    ) -> web.StreamResponse:
        session = self._session
        if session is None or session.closed:
            return self._away(request)
        try:
            answer = await session.request(
                request.method,
                URL(self._upstream.address.http_origin + target, encoded=True),
                headers=headers,
                data=body.data() if request.body_exists else None,
                allow_redirects=False,
                skip_auto_headers=_NOT_ADDED,
            )
        except aiohttp.ClientConnectorError as error:
            self._upstream.failed_with(error)
            return self._away(request)
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            if body.paused:
                self._dropped("body")
                return _closing(408, _BODY_PAUSED)
            return self._away(request)
        self._requests.labels("passed").inc()
        try:
            return await self._pass_back(request, answer)
        finally:
            answer.close()

    def _away(self, request: web.Request) -> web.Response:
        self._requests.labels("no-upstream").inc()
        return _away(request)

    async def _pass_back(
        self, request: web.Request, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        transport = request.transport
        connection = ",".join(answer.headers.getall("Connection", ()))
        response = web.StreamResponse(
            status=answer.status,
            reason=answer.reason,
            headers=CIMultiDict(response_headers(answer.headers.items(), connection)),
        )
        if transport is None:
            return response
        try:
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            answer.release()
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            transport.abort()  # a part of an answer must not look like the whole
        return response


def _note_identity(request: web.Request, identity: list[tuple[str, str]] | web.Response) -> None:
    """Tell the scheduler of requests whether this one is an operator's."""
    if isinstance(identity, web.Response):
        if identity.status == web.HTTPTooManyRequests.status_code:
            note_locked_out(request)
    elif identity:
        note_operator(request)


def _parted(target: str) -> tuple[str, str]:
    """Split a request target into its path and the rest, which begins with the question mark.

    A target in absolute form names a host before the path: that one counts as the Host already.
    """
    if not target.startswith("/"):
        url = URL(target, encoded=True)
        target = url.raw_path_qs if url.is_absolute() else target
    path, mark, query = target.partition("?")
    return path, mark + query


def _closing(status: int, text: str) -> web.Response:
    """Return a response to a request whose body was not read to its end."""
    response = web.Response(status=status, text=text)
    response.force_close()
    return response


def _problem(
    status: int, kind: str, message: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    response = json_response({"error": {"message": message, "type": kind}}, status=status)
    response.headers.update({"Cache-Control": "no-store", **(headers or {})})
    return response


def _away(request: web.Request) -> web.Response:
    html = request.method in {"GET", "HEAD"} and wants_html(request.headers.get("Accept", ""))
    headers: dict[str, Any] = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": away_page.POLICY,
        "Referrer-Policy": "no-referrer",
        "Retry-After": str(away_page.AWAY_RETRY_SECONDS),
        "X-Content-Type-Options": "nosniff",
    }
    return web.Response(
        status=503,
        text=away_page.HTML if html else away_page.TEXT,
        content_type="text/html" if html else "text/plain",
        headers=headers,
    )
