"""The faults that the drills put between the services and Redis, on real sockets."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Self

import pytest

from tools.support.proxies.faults import HOST, FaultProxy, Way
from tools.support.waiting import WAIT_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DELAY_SECONDS: Final = 0.1
ENOUGH_TO_FILL_BUFFERS: Final = 20_000_000


class Echo:
    """A server that echoes and counts its input."""

    def __init__(self) -> None:
        self.heard = b""
        self.open = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while data := await reader.read(65_536):
                self.heard += data
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            self.open -= 1
            writer.close()


class Line:
    """One connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.got = b""
        self.ending = ""
        """The end of the connection: `closed` or `reset`; empty while it is open."""
        self._reading = asyncio.create_task(self._read())

    def say(self, data: bytes) -> None:
        self._writer.write(data)

    async def hears(self, data: bytes) -> None:
        await until(lambda: self.got.endswith(data), f"{data!r} comes back")

    async def ends(self) -> str:
        await until(lambda: self.ending, "it ends")
        return self.ending

    async def close(self) -> None:
        self._writer.close()
        await asyncio.wait_for(self._reading, WAIT_SECONDS)

    async def _read(self) -> None:
        try:
            while data := await self._reader.read(65_536):
                self.got += data
            self.ending = "closed"
        except ConnectionResetError:
            self.ending = "reset"


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with Echo() as echo:
        yield echo


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(echo.port) as proxy:
        yield proxy


@asynccontextmanager
async def line(proxy: FaultProxy) -> AsyncIterator[Line]:
    made = Line(*await asyncio.open_connection(HOST, proxy.port))
    try:
        yield made
    finally:
        await made.close()


async def test_it_carries_both_ways_and_the_end(proxy: FaultProxy, echo: Echo) -> None:
    async with line(proxy) as connection, line(proxy) as other:
        connection.say(b"one")
        other.say(b"other")
        await connection.hears(b"one")
        await other.hears(b"other")
        assert proxy.connections == 2
    await until(lambda: echo.open == 0, "the server sees the end")
    await until(lambda: proxy.connections == 0, "nothing is kept")


async def test_much_is_carried_in_order(proxy: FaultProxy) -> None:
    data = bytes(range(256)) * (ENOUGH_TO_FILL_BUFFERS // 256)
    async with line(proxy) as connection:
        connection.say(data)
        await until(lambda: len(connection.got) == len(data), "all came back")
        assert connection.got == data


async def test_delayed_messages_arrive_late_and_in_order(proxy: FaultProxy) -> None:
    now = asyncio.get_running_loop().time
    proxy.delay(DELAY_SECONDS)
    async with line(proxy) as connection:
        began = now()
        for number in range(5):
            connection.say(str(number).encode())
        await connection.hears(b"4")
        assert connection.got == b"01234"
        assert now() - began >= 2 * DELAY_SECONDS
        proxy.pass_on()
        connection.say(b"soon")
        await connection.hears(b"soon")


async def test_nothing_passes_and_nothing_is_lost_while_both_ways_are_held(
    proxy: FaultProxy, echo: Echo
) -> None:
    async with line(proxy) as before:
        before.say(b"before")
        await before.hears(b"before")
        proxy.hold()
        before.say(b", held")
        async with line(proxy) as during:
            during.say(b"taken, not carried")
            await until(lambda: proxy.accepted == 2, "the connection is taken")
            assert echo.heard == b"before"
            assert not before.ending + during.ending
            proxy.pass_on()
            await before.hears(b"before, held")
            await during.hears(b"taken, not carried")


async def test_replies_pass_while_data_to_the_server_is_held(proxy: FaultProxy, echo: Echo) -> None:
    async with line(proxy) as connection:
        proxy.hold(Way.BACK)
        connection.say(b"first")
        await until(lambda: echo.heard == b"first", "it went there")
        proxy.hold(Way.THERE)
        connection.say(b", second")
        await connection.hears(b"first")
        assert echo.heard == b"first"
        proxy.pass_on()
        await connection.hears(b"first, second")


async def test_data_to_the_server_passes_while_replies_are_held(
    proxy: FaultProxy, echo: Echo
) -> None:
    async with line(proxy) as connection:
        proxy.hold(Way.BACK)
        connection.say(b"question")
        await until(lambda: echo.heard == b"question", "it went there")
        assert connection.got == b""
        proxy.pass_on()
        await connection.hears(b"question")


@pytest.mark.parametrize(("fault", "mode"), [("cut", "closed"), ("reset", "reset")])
async def test_ended_all_are_and_each_that_comes_until_it_passes_again(
    proxy: FaultProxy, echo: Echo, fault: str, mode: str
) -> None:
    async with line(proxy) as connection, line(proxy) as other:
        connection.say(b"x")
        await connection.hears(b"x")
        await until(lambda: echo.open == 2, "both are through")
        getattr(proxy, fault)()
        assert [await connection.ends(), await other.ends()] == [mode, mode]
        await until(lambda: echo.open == 0, "the server loses them too")
        async with line(proxy) as late:
            assert await late.ends() == mode
    proxy.pass_on()
    async with line(proxy) as anew:
        anew.say(b"anew")
        await anew.hears(b"anew")


async def test_existing_connections_are_silent_and_new_ones_pass_while_swallowed(
    proxy: FaultProxy,
) -> None:
    async with line(proxy) as old:
        old.say(b"x")
        await old.hears(b"x")
        proxy.swallow()
        async with line(proxy) as new:
            old.say(b"lost")
            new.say(b"carried")
            await new.hears(b"carried")
            assert (old.got, old.ending) == (b"x", "")
        proxy.cut()


async def test_where_nobody_listens_it_ends_what_comes() -> None:
    async with Echo() as echo:
        proxy = FaultProxy(echo.port)
    async with proxy, line(proxy) as connection:
        assert await connection.ends() == "reset"
