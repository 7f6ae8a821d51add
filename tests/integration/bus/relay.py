"""A way to Redis that a test has in its hands: with TLS, or one that swallows everything."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from ssl import SSLContext

HOST: Final = "127.0.0.1"


class Relay:
    """Carries TCP connections to a port; with `tls`, its clients speak TLS."""

    def __init__(self, port: int, tls: SSLContext | None = None) -> None:
        self._to = port
        self._tls = tls
        self._carrying: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []
        self.port = 0
        self.accepted = 0
        self.deaf = False
        """Whether newcomers are accepted and never carried."""

    def black_hole(self) -> None:
        """Swallow everything from now on, of what is connected and of what will be."""
        self.deaf = True
        self.swallow()

    def swallow(self) -> None:
        """Let what is connected carry nothing more, without closing it."""
        for task in self._carrying:
            task.cancel()
        self._carrying.clear()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._relay, HOST, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.swallow()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.deaf:
            self._writers.append(writer)
            return
        there, back = await asyncio.open_connection(HOST, self._to)
        self._writers += [writer, back]
        for source, target in ((reader, back), (there, writer)):
            self._carrying.append(asyncio.create_task(self._carry(source, target)))

    @staticmethod
    async def _carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                target.write(data)
            target.close()
        except ConnectionError:
            target.close()
