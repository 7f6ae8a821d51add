"""A stub upstream for HTTP and sockets: it answers by path and records requests."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aiohttp import web

from tools.support.threaded_server import threaded_server
from tools.support.waiting import until

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterator

LARGE: Final = bytes(range(256)) * 4096
ETAG: Final = '"of-the-script"'


@dataclass
class Received:
    """A request, unchanged."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Return the values of a header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass
class StubUpstream:
    """The requests it received, and its responses."""

    port: int = 0
    received: list[Received] = field(default_factory=list)
    begun: Counter[str] = field(default_factory=Counter)
    """How often the head of a request for a path arrived."""
    release: threading.Event = field(default_factory=threading.Event)
    """Set: the slow answer ends."""
    left: int = 0
    """How many clients left before they got an answer."""

    @property
    def _special(self) -> dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]]:
        return {
            "/health": _health,
            "/assets/app.js": _asset,
            "/large": _large,
            "/moved": _moved,
            "/cookies": _cookies,
            "/slow": self._slow,
            "/cut": _cut,
            "/silent": self._silent,
            "/endless": _endless,
        }

    @property
    def url(self) -> str:
        """The address for UPSTREAM_URL."""
        return f"ws://127.0.0.1:{self.port}"

    def last(self, path: str) -> Received:
        """Return the newest request for a path."""
        return next(
            item for item in reversed(self.received) if item.target.partition("?")[0] == path
        )

    def asked(self, path: str) -> int:
        """Return how often a path was requested."""
        return sum(item.target.partition("?")[0] == path for item in self.received)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        path = request.raw_path.partition("?")[0]
        self.begun[path] += 1
        body = await request.read() if request.body_exists else b""
        self.received.append(
            Received(request.method, request.raw_path, list(request.headers.items()), body)
        )
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._echo(request)
        special = self._special.get(path)
        if special is not None:
            return await special(request)
        users = [value for name, value in request.headers.items() if _is_user(name)]
        if path.endswith("control-ui-config.json") and not users:
            return web.json_response({"error": {"type": "unauthorized"}}, status=401)
        return web.json_response({"path": request.raw_path, "users": users})

    async def _slow(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: first\n\n")
        await asyncio.to_thread(self.release.wait, 30)
        await response.write_eof(b"data: last\n\n")
        return response

    async def _silent(self, request: web.Request) -> web.StreamResponse:
        """Answer nothing, and note when the client leaves."""
        await until(lambda: request.transport is None, "the client leaves")
        self.left += 1
        return web.Response()

    async def _echo(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("ticket",), max_msg_size=0)
        await socket.prepare(request)
        async for message in socket:
            if message.type is web.WSMsgType.BINARY:
                await socket.send_bytes(message.data)
            else:
                await socket.send_str(f"{request.raw_path} {message.data}")
        return socket


async def _health(_request: web.Request) -> web.Response:
    return web.json_response({"ok": True, "status": "live"})


async def _large(_request: web.Request) -> web.Response:
    return web.Response(body=LARGE, content_type="application/octet-stream")


async def _moved(_request: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": "/elsewhere"})


async def _cookies(_request: web.Request) -> web.Response:
    response = web.Response(text="two")
    response.headers.extend([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    return response


async def _asset(request: web.Request) -> web.Response:
    headers = {"ETag": ETAG, "Cache-Control": "public, max-age=31536000, immutable"}
    if request.headers.get("If-None-Match") == ETAG:
        return web.Response(status=304, headers=headers)
    if request.headers.get("Range") == "bytes=0-3":
        headers |= {"Content-Range": "bytes 0-3/9"}
        return web.Response(status=206, headers=headers, body=b"plai")
    if "br" in request.headers.get("Accept-Encoding", ""):
        headers |= {"Content-Encoding": "br"}
        return web.Response(headers=headers, body=b"\x0bthese are not decoded\x03")
    return web.Response(headers=headers, body=b"plaintext")


async def _cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"only this")
    assert request.transport is not None
    request.transport.close()
    return response


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await response.write(LARGE)
    return response


def _is_user(name: str) -> bool:
    return name.lower().startswith("x-latchkey-user-")


@contextmanager
def stub_upstream(port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[StubUpstream]:
    """Serve one in a thread of its own."""
    stub = StubUpstream()
    with threaded_server(stub.serve, port, tls=tls) as stub.port:
        try:
            yield stub
        finally:
            stub.release.set()
