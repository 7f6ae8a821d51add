"""Upgrades beyond the room for them are turned away at accept; other requests are not."""

from __future__ import annotations

import asyncio
import gc
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from shared.server.accept import ACCEPTED_PER_TURN, RETRY_AFTER_SECONDS, BulkAcceptor
from shared.server.sockets import open_sockets
from tests.support.websocket.raw_socket import RawSocket, upgrade_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

HEALTH = b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Served(asyncio.Protocol):
    """Answers any request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(OK)


class Server:
    """An acceptor with room for so many upgrades."""

    def __init__(self) -> None:
        listeners = open_sockets(("127.0.0.1",), 0)
        self.port: int = listeners[0].getsockname()[1]
        self.room = 0
        self.turned_away = 0
        self.make: Callable[[], asyncio.BaseProtocol] = Served
        self.acceptor = BulkAcceptor(
            listeners,
            lambda _peer: self.make(),
            lambda: None,
            upgrades=lambda: (0, self.room),
            on_turned_away=self.count,
        )

    def count(self) -> None:
        self.turned_away += 1


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Return a server, which accepts once it is started."""
    server = Server()
    yield server
    server.acceptor.stop()


async def upgrading(port: int, stack: AsyncExitStack, count: int) -> list[RawSocket]:
    """Return sockets that have sent their upgrades."""
    sockets = []
    for _ in range(count):
        raw = await RawSocket.tcp(port)
        stack.callback(raw.hang_up)
        await raw.send_bytes(upgrade_bytes(port))
        sockets.append(raw)
    return sockets


async def crowd(server: Server, stack: AsyncExitStack, count: int) -> list[RawSocket]:
    """Return sockets whose upgrades have arrived before the server accepts."""
    sockets = await upgrading(server.port, stack, count)
    server.acceptor.start()
    return sockets


async def health(server: Server) -> int:
    async with await RawSocket.tcp(server.port) as raw:
        await raw.send_bytes(HEALTH)
        await raw.upgraded()
        return raw.status


async def test_without_room_an_upgrade_gets_503_with_a_spread_hint(server: Server) -> None:
    hints = set()
    async with AsyncExitStack() as stack:
        for raw in await crowd(server, stack, len(RETRY_AFTER_SECONDS)):
            await raw.upgraded()
            assert raw.status == 503
            assert await raw.read_to_end(), "it is closed, and the response is not lost"
            hints.add(int(raw.headers["retry-after"]))
    assert hints == set(RETRY_AFTER_SECONDS)
    assert server.turned_away == len(RETRY_AFTER_SECONDS)


async def test_without_room_health_checks_are_served(server: Server) -> None:
    server.acceptor.start()
    assert await health(server) == 200
    assert server.turned_away == 0


async def test_a_crowd_is_turned_away_up_to_the_last(server: Server) -> None:
    """The time for turning away is limited, and what it does not suffice for comes later."""
    count = 8 * ACCEPTED_PER_TURN
    async with AsyncExitStack() as stack:
        for raw in await crowd(server, stack, count):
            await raw.upgraded()
            assert raw.status == 503
    assert server.turned_away == count
    assert await health(server) == 200


async def test_upgrades_are_accepted_as_far_as_there_is_room(server: Server) -> None:
    server.room = 3
    async with AsyncExitStack() as stack:
        statuses = []
        for raw in await crowd(server, stack, 5):
            await raw.upgraded()
            statuses.append(raw.status)
    assert statuses == [200] * 3 + [503] * 2


async def test_accepted_sockets_outlive_a_collection(server: Server) -> None:
    server.acceptor.start()
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(await RawSocket.tcp(server.port))]
        sockets += [await stack.enter_async_context(await RawSocket.tcp(server.port))]
        await asyncio.sleep(0.05)
        gc.collect()
        for raw in sockets:
            await raw.send_bytes(HEALTH)
            await raw.upgraded()
            assert raw.status == 200


async def test_a_socket_may_be_aborted_as_soon_as_it_is_open(server: Server) -> None:
    class Aborts(Served):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            cast("asyncio.Transport", transport).abort()

    server.make = iter([Aborts(), Served()]).__next__
    server.room = 2
    async with AsyncExitStack() as stack:
        first, second = await crowd(server, stack, 2)
        assert not await first.read_to_end()
        await second.upgraded()
        assert second.status == 200


async def test_a_socket_that_cannot_be_connected_is_closed_and_the_others_are_served(
    server: Server,
) -> None:
    loop = asyncio.get_running_loop()
    connect = loop.connect_accepted_socket
    failed = 0

    async def fail_once(factory: Any, sock: Any) -> object:
        nonlocal failed
        if not failed:
            failed += 1
            raise OSError("the client has gone")
        return await connect(factory, sock)

    server.acceptor._loop = cast(
        "Any",
        SimpleNamespace(
            connect_accepted_socket=fail_once,
            call_soon=loop.call_soon,
            add_reader=loop.add_reader,
            remove_reader=loop.remove_reader,
        ),
    )
    async with AsyncExitStack() as stack:
        first, second = await upgrading(server.port, stack, 2)
        server.room = 2
        server.acceptor.start()
        assert not await first.read_to_end()
        await second.upgraded()
        assert second.status == 200
    assert failed == 1
