"""Pipelined requests, slow bodies and unread responses on real sockets."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final, Self

import pytest
from aiohttp import web

from shared.clock import SystemClock
from shared.server.http_protocol import (
    BODY_TOO_SLOW,
    HEAD_LIMIT_BYTES,
    HEAD_TOO_LARGE,
    TrackedRequestHandler,
    busy_response,
)
from shared.server.plain_limits import PlainLimits
from shared.server.plain_requests import PlainRequests
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PIPELINED: Final = 100
STALL_SECONDS: Final = 0.5
LARGE_BYTES: Final = 20_000_000
"""More than the kernel buffers for a client that does not read."""
HOST: Final = "127.0.0.1"
KEY: Final = "192.0.2.1"


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


def post(length: int) -> bytes:
    return f"POST /body HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n".encode()


class Server:
    """A server with few places, which records how many requests were parsed ahead."""

    def __init__(self, limits: PlainLimits) -> None:
        self.dropped: Counter[str] = Counter()
        self.requests = PlainRequests(
            SystemClock(),
            limits=limits,
            count=lambda why: self.dropped.update([why]),
            refusal=busy_response,
            prefix="/below",
        )
        self.parsed_ahead = 0
        self.served: list[str] = []
        self.body_bytes = 0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self._handlers: list[TrackedRequestHandler] = []
        app = web.Application(client_max_size=LARGE_BYTES)
        app.router.add_get("/number/{number}", self._number)
        app.router.add_get("/large", self._large)
        app.router.add_get("/{prefix:.*}livez", self._livez)
        app.router.add_post("/body", self._body)
        self._runner = web.AppRunner(app, access_log=None)
        self._port = 0

    @property
    def write_buffer_limits(self) -> list[tuple[int, int]]:
        """The limits of each transport, from which on a response counts as unread."""
        transports = [handler.transport for handler in self._handlers]
        return [found.get_write_buffer_limits() for found in transports if found is not None]

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection."""
        return await asyncio.open_connection(HOST, self._port)

    def has_seen(self, requests: int) -> bool:
        """Return whether so many requests wait or are in progress."""
        return self.requests.in_progress + self.requests.waiting >= requests

    async def _number(self, request: web.Request) -> web.Response:
        await self.go_on.wait()
        await asyncio.sleep(0)
        self._look()
        self.served.append(request.match_info["number"])
        return web.Response(text=request.match_info["number"])

    async def _large(self, _request: web.Request) -> web.Response:
        self.served.append("large")
        return web.Response(body=bytes(LARGE_BYTES))

    async def _livez(self, _request: web.Request) -> web.Response:
        return web.Response(text="live")

    async def _body(self, request: web.Request) -> web.Response:
        self.served.append("body")
        self.body_bytes = 0
        async for chunk in request.content.iter_any():
            self.body_bytes += len(chunk)
        return web.Response(text=str(self.body_bytes))

    def _look(self) -> None:
        queued = [len(handler._messages) for handler in self._handlers]
        self.parsed_ahead = max(self.parsed_ahead, *queued)

    def _handler(self) -> TrackedRequestHandler:
        server = self._runner.server
        assert server is not None
        handler = TrackedRequestHandler(
            server, loop=asyncio.get_running_loop(), access_log=None, keepalive_timeout=20.0
        )
        handler.schedule(self.requests, KEY, ())
        self._handlers.append(handler)
        return handler

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        self._listening = await asyncio.get_running_loop().create_server(self._handler, HOST, 0)
        self._port = self._listening.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listening.close()
        await self._runner.cleanup()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Run a server with two places and a short stall time."""
    async with Server(PlainLimits(2, 2, STALL_SECONDS)) as running:
        yield running


async def response(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read the head and the body of a response."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.partition(b":")[2])
        for line in head.splitlines()
        if line.lower().startswith(b"content-length:")
    )
    return head, await reader.readexactly(length)


async def test_one_pipelined_request_is_parsed_ahead(server: Server) -> None:
    reader, writer = await server.open()
    numbers = [str(number).encode() for number in range(PIPELINED)]
    writer.write(b"".join(get(f"/number/{number.decode()}") for number in numbers))
    async with asyncio.timeout(10):
        assert [(await response(reader))[1] for _ in numbers] == numbers
    assert server.parsed_ahead == 1
    writer.close()


async def test_a_request_behind_a_body_is_served(server: Server) -> None:
    reader, writer = await server.open()
    for _ in range(3):
        writer.write(post(4))
        await until(lambda: server.served[-1:] == ["body"], "the body is awaited")
        writer.write(b"abcd" + get("/number/7"))
        async with asyncio.timeout(10):
            assert [(await response(reader))[1] for _ in range(2)] == [b"4", b"7"]
    writer.close()


async def test_requests_behind_the_end_of_a_chunked_body_are_served(server: Server) -> None:
    reader, writer = await server.open()
    writer.write(
        b"POST /body HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    )
    await until(lambda: server.body_bytes == 3, "a part of the body is read")
    writer.write(b"2\r\nde\r\n")
    await until(lambda: server.body_bytes == 5, "the whole body is read, but not its end")
    writer.write(b"0\r\n\r\n" + get("/number/1") + get("/number/2"))
    async with asyncio.timeout(10):
        assert [(await response(reader))[1] for _ in range(3)] == [b"5", b"1", b"2"]
    writer.close()


async def test_a_body_that_does_not_arrive_is_answered_with_408(server: Server) -> None:
    reader, writer = await server.open()
    writer.write(post(1000) + b"a")
    async with asyncio.timeout(10):
        assert await reader.read() == BODY_TOO_SLOW
    await until(lambda: server.requests.in_progress == 0, "its place is free")
    assert server.dropped == {"body": 1}
    writer.close()


async def test_a_response_that_is_not_read_is_broken_off(server: Server) -> None:
    _reader, writer = await server.open()
    _reader._limit = 0  # type: ignore[attr-defined]
    writer.write(get("/large"))
    await until(lambda: server.requests.unread.bytes > 0, "something is unread")
    assert server.write_buffer_limits == [(0, 0)]
    await until(lambda: server.dropped == {"unread": 1}, "it is broken off")
    await until(lambda: server.requests.in_progress == 0, "its place is free")
    assert server.requests.unread.bytes == 0
    writer.transport.abort()


async def test_too_large_a_head_is_answered_with_431(server: Server) -> None:
    reader, writer = await server.open()
    head = b"GET / HTTP/1.1\r\nHost: here\r\n"
    head += b"".join(b"X-%d: %b\r\n" % (number, b"x" * 8000) for number in range(5))
    sent = head[: HEAD_LIMIT_BYTES + 1]
    for start in range(0, len(sent), 1000):
        writer.write(sent[start : start + 1000])
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        assert await reader.read() == HEAD_TOO_LARGE
    writer.close()


async def test_a_request_that_waits_too_long_is_refused_without_effect(server: Server) -> None:
    server.go_on.clear()
    sockets = [await server.open() for _ in range(3)]
    for number, (_, writer) in enumerate(sockets):
        writer.write(get(f"/number/{number}"))
        await until(partial(server.has_seen, number + 1), "it has arrived")
    async with asyncio.timeout(10):
        head, body = await response(sockets[2][0])
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 2\r\n" in head
    assert b"\r\nConnection: close\r\n" in head
    assert body == b"Too many requests are in progress\n"
    server.go_on.set()
    async with asyncio.timeout(10):
        assert [(await response(reader))[1] for reader, _ in sockets[:2]] == [b"0", b"1"]
    assert sorted(server.served) == ["0", "1"]
    assert server.dropped == {"waited": 1}
    for _, writer in sockets:
        writer.close()


async def test_a_client_that_leaves_while_waiting_is_forgotten(server: Server) -> None:
    server.go_on.clear()
    sockets = [await server.open() for _ in range(3)]
    for _, writer in sockets:
        writer.write(get("/number/1"))
    await until(lambda: server.requests.waiting == 1, "one waits")
    for _, writer in sockets:
        writer.transport.abort()
    await until(lambda: server.requests.waiting == 0, "nobody waits")
    server.go_on.set()
    await until(lambda: server.requests.in_progress == 0, "nothing is in progress")


async def test_health_checks_are_answered_while_all_places_are_taken(server: Server) -> None:
    server.go_on.clear()
    sockets = [await server.open() for _ in range(5)]
    for _, writer in sockets[:2]:
        writer.write(get("/number/1"))
    await until(partial(server.has_seen, 2), "all places are taken")
    paths = ("/livez", "/below/livez", "/elsewhere/livez")
    for path, (_, writer) in zip(paths, sockets[2:], strict=True):
        writer.write(get(path))
    async with asyncio.timeout(10):
        assert [(await response(reader))[1] for reader, _ in sockets[2:4]] == [b"live"] * 2
        head, _ = await response(sockets[4][0])
    assert head.startswith(b"HTTP/1.1 503 ")
    server.go_on.set()
    for _, writer in sockets:
        writer.close()


@pytest.mark.parametrize(("length", "waits"), [(16_384, True), (16_385, False), (None, False)])
async def test_only_a_small_anonymous_body_waits(
    server: Server, length: int | None, *, waits: bool
) -> None:
    server.go_on.clear()
    sockets = [await server.open() for _ in range(3)]
    for _, writer in sockets[:2]:
        writer.write(get("/number/1"))
    await until(partial(server.has_seen, 2), "all places are taken")
    reader, writer = sockets[2]
    chunked = b"POST /body HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
    writer.write(chunked if length is None else post(length))
    if waits:
        await until(lambda: server.requests.waiting == 1, "it waits")
        assert server.dropped == {}
    else:
        async with asyncio.timeout(10):
            assert (await response(reader))[0].startswith(b"HTTP/1.1 503 ")
        assert server.dropped == {"body": 1}
    server.go_on.set()
    for _, writer in sockets:
        writer.transport.abort()
