"""Connections of approval: a deadline for the first request, and a limit on their number."""

from __future__ import annotations

import asyncio
import ipaddress
import resource
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Self

import aiohttp
import pytest
from aiohttp import web

from services.approval.api.server import SOCKETS_LIMIT, SOCKETS_LIMIT_PER_ADDRESS, Intake
from services.approval.metrics import Metrics
from shared.protocol.limits import HANDSHAKE_DEADLINE_SECONDS
from shared.server.accept import SPARE_DESCRIPTORS
from shared.server.http_protocol import note_request
from shared.server.sockets import open_sockets
from tests.support.clock import FakeClock
from tests.support.websocket.raw_socket import RawSocket
from tools.support.processes.stack import Stack
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from shared.settings.environment import Network

LIMIT: Final = 3
ASKING: Final = b"GET %s HTTP/1.1\r\nHost: approval\r\n\r\n"


@web.middleware
async def _note(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    note_request(request)
    return await handler(request)


class LimitedServer:
    """A server limited to three connections, with a page and an endless stream."""

    def __init__(self, trusted_proxies: tuple[Network, ...] = ()) -> None:
        self.clock = FakeClock()
        self.metrics = Metrics()
        self.streaming = 0
        self.ended = asyncio.Event()
        self._stack = ExitStack()
        self._app = web.Application(middlewares=[_note])
        self._app.router.add_get("/page", self._page)
        self._app.router.add_get("/stream", self._stream)
        self._runner = web.AppRunner(self._app, access_log=None)
        self._trusted_proxies = trusted_proxies
        self.port = 0

    async def _page(self, _request: web.Request) -> web.Response:
        return web.Response(text="a page")

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 2
        await response.prepare(request)
        await response.write(b"1")
        self.streaming += 1
        await self.ended.wait()
        await response.write(b"2")
        return response

    async def tcp(self) -> RawSocket:
        raw = await RawSocket.tcp(self.port)
        self._stack.callback(raw.hang_up)
        return raw

    async def idle(self) -> RawSocket:
        """Return a client that requested the page and keeps its connection open."""
        raw = await self.tcp()
        await raw.send_bytes(ASKING % b"/page")
        await raw.upgraded()
        assert raw.status == 200
        raw._buffer.clear()
        return raw

    async def listening(self) -> RawSocket:
        """Return a client that reads the stream."""
        raw, before = await self.tcp(), self.streaming
        await raw.send_bytes(ASKING % b"/stream")
        await until(lambda: self.streaming > before, "the stream has begun")
        return raw

    def turned_away(self, limit: str) -> float:
        labels = {"limit": limit}
        name = "latchkey_approval_turned_away_total"
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        assert self._runner.server is not None
        listeners = open_sockets(("127.0.0.1",), 0)
        self.port = listeners[0].getsockname()[1]
        self._intake = Intake(
            listeners,
            self._runner.server,
            self.clock,
            self.metrics,
            limit=LIMIT,
            trusted_proxies=self._trusted_proxies,
            on_exhausted=lambda: None,
        )
        self._intake.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.ended.set()
        self._intake.stop()
        self._stack.close()
        await self._runner.cleanup()


@pytest.fixture
async def limited() -> AsyncIterator[LimitedServer]:
    async with LimitedServer() as limited:
        yield limited


class TestFirstRequest:
    async def test_silent_and_slow_clients_are_closed(self, limited: LimitedServer) -> None:
        silent, slow, idle = await limited.tcp(), await limited.tcp(), await limited.idle()
        await slow.send_bytes(b"GET /page HTTP/1.1\r\nHost: ")
        limited.clock.advance(HANDSHAKE_DEADLINE_SECONDS)
        assert [await raw.read_to_end() for raw in (silent, slow)] == [b"", b""]
        await idle.send_bytes(ASKING % b"/page")
        await idle.upgraded()
        assert idle.status == 200

    async def test_no_served_connection_is_closed(self, limited: LimitedServer) -> None:
        stream, silent = await limited.listening(), await limited.tcp()
        limited.clock.advance(2 * HANDSHAKE_DEADLINE_SECONDS)
        assert await silent.read_to_end() == b""
        limited.ended.set()
        await stream.upgraded()
        assert (stream.status, stream.body) == (200, b"12")


class TestLimit:
    async def test_an_idle_connection_is_evicted(self, limited: LimitedServer) -> None:
        idle, stream = await limited.idle(), await limited.listening()
        await limited.listening()
        await limited.idle()
        assert await idle.read_to_end() == b""
        assert limited.turned_away("idle") == 1
        limited.ended.set()
        await stream.upgraded()
        assert stream.body == b"12"

    async def test_a_silent_connection_is_evicted(self, limited: LimitedServer) -> None:
        silent = [await limited.tcp() for _ in range(LIMIT)]
        await limited.idle()
        await silent[0].upgraded()
        assert (silent[0].status, silent[0].body) == (503, b"Too many connections")

    async def test_streams_are_not_displaced(self, limited: LimitedServer) -> None:
        for _ in range(LIMIT):
            await limited.listening()
        late = await limited.tcp()
        await late.upgraded()
        assert (late.status, late.body) == (503, b"Too many connections")
        assert limited.turned_away("all") == 1

    async def test_the_limit_also_holds_for_a_proxy(self) -> None:
        async with LimitedServer((ipaddress.ip_network("127.0.0.1"),)) as limited:
            for _ in range(LIMIT + 2):
                await limited.idle()
            assert limited.turned_away("idle") == 2


class TestReplica:
    async def test_serves_among_silent_sockets_and_has_its_descriptors(
        self, tmp_path: Path
    ) -> None:
        with ExitStack() as held, Stack(tmp_path, approvals=1, gateways=0) as stack:
            approval = stack.approvals[0]
            soft, hard = resource.prlimit(approval.pid, resource.RLIMIT_NOFILE)
            assert soft >= min(SOCKETS_LIMIT + SPARE_DESCRIPTORS, hard)
            silent = []
            for _ in range(SOCKETS_LIMIT_PER_ADDRESS + 1):
                silent.append(await RawSocket.tcp(approval.port))
                held.callback(silent[-1].hang_up)
            await silent[0].upgraded()
            assert silent[0].status == 503
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"{approval.url}/livez") as livez,
            ):
                assert livez.status == 200
