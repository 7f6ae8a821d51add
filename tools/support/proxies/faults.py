"""A TCP proxy for Redis, optionally with TLS, that imitates network faults."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ssl import SSLContext

HOST: Final = "127.0.0.1"
READ_BYTES: Final = 65_536
QUEUED_READS_LIMIT: Final = 1_000
"""Maximum buffered reads per direction of a connection; beyond it, the sender waits."""
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Way(Enum):
    """The two directions, as seen from the client."""

    THERE = auto()
    BACK = auto()


class FaultProxy:
    """Forwards TCP connections to a port; with `tls`, its clients use TLS.

    It forwards everything by default; each of `pass_on`, `delay`, `hold`, `cut` and `reset`
    replaces the previous mode. Held data is kept and delivered later, as by a network that loses
    all packets for a while.
    """

    def __init__(self, port: int, tls: SSLContext | None = None) -> None:
        self._to = port
        self._tls = tls
        self._gates = {way: _Gate() for way in Way}
        self._carrying: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._ending: Ending | None = None
        self.port = 0
        self.accepted = 0

    @property
    def connections(self) -> int:
        """The number of open client connections."""
        return len(self._writers) // 2

    def pass_on(self) -> None:
        """Forward everything immediately, held data first."""
        self._ending = None
        for gate in self._gates.values():
            gate.pass_on()

    def delay(self, seconds: float) -> None:
        """Delay everything by this many seconds in each direction."""
        self.pass_on()
        for gate in self._gates.values():
            gate.delay_seconds = seconds

    def hold(self, *ways: Way) -> None:
        """Hold data in these directions or in both; new connections are still accepted."""
        self.pass_on()
        for way in ways or Way:
            self._gates[way].hold()

    def lead_to(self, port: int) -> None:
        """Forward new connections to another port; existing ones stay."""
        self._to = port

    def cut(self) -> None:
        """Close all connections normally, including new ones."""
        self._end_all(Ending.CLOSE)

    def reset(self) -> None:
        """Reset all connections, including new ones."""
        self._end_all(Ending.RESET)

    def swallow(self) -> None:
        """Drop the data of existing connections without closing them; new ones work."""
        for task in self._carrying:
            task.cancel()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._relay, HOST, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.swallow()
        await asyncio.gather(*self._carrying, return_exceptions=True)
        await abort(self._writers)
        await self._server.wait_closed()

    def _end_all(self, ending: Ending) -> None:
        self.pass_on()
        self._ending = ending
        for writer in list(self._writers):
            end(writer, ending)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            there, back = await asyncio.open_connection(HOST, self._to)
        except OSError:
            end(writer, Ending.RESET)
            return
        ends = {writer, back}
        if self._ending is not None:
            for one in ends:
                end(one, self._ending)
            return
        self._writers |= ends
        both = [
            asyncio.create_task(self._gates[Way.THERE].carry(reader, back)),
            asyncio.create_task(self._gates[Way.BACK].carry(there, writer)),
        ]
        self._carrying.update(both)
        await asyncio.wait(both)
        self._carrying.difference_update(both)
        if not any(task.cancelled() for task in both):
            self._writers -= ends


class Ending(Enum):
    """How a connection ends."""

    CLOSE = auto()
    RESET = auto()


class _Gate:
    """One direction of all connections."""

    def __init__(self) -> None:
        self.delay_seconds = 0.0
        self._open = asyncio.Event()
        self._open.set()

    def pass_on(self) -> None:
        self.delay_seconds = 0.0
        self._open.set()

    def hold(self) -> None:
        self._open.clear()

    async def carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        """Forward one connection's data and its end."""
        now = asyncio.get_running_loop().time
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUED_READS_LIMIT)

        async def read() -> None:
            data = b"?"
            while data:
                try:
                    data = await source.read(READ_BYTES)
                except OSError:
                    data = b""
                await queue.put((now() + self.delay_seconds, data))

        reading = asyncio.create_task(read())
        try:
            with contextlib.suppress(OSError):
                while True:
                    due, data = await queue.get()
                    await asyncio.sleep(max(0.0, due - now()))
                    await self._open.wait()
                    if not data:
                        break
                    target.write(data)
                    await target.drain()
            target.close()
        finally:
            reading.cancel()


async def abort(writers: Iterable[asyncio.StreamWriter]) -> None:
    """Close connections for good: a peer that reads nothing would delay a normal close for ever."""
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(0)  # the sockets are closed in the next turn


def end(writer: asyncio.StreamWriter, ending: Ending) -> None:
    """End a connection this way."""
    if ending is Ending.CLOSE:
        writer.close()
        return
    handle = writer.get_extra_info("socket")
    # The option belongs to the socket, whichever descriptor sets it; asyncio offers no way to.
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(handle.fileno())) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
