"""A TCP proxy that distributes connections over several servers in turn."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

CHUNK_BYTES: Final = 65_536


@asynccontextmanager
async def balancer(ports: Sequence[int]) -> AsyncIterator[int]:
    """Serve on loopback; yields the port."""
    turns = itertools.cycle(ports)
    carrying: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        writers = carrying[task] = [writer]
        with suppress(OSError):
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", next(turns))
            writers.append(up_writer)
            await asyncio.gather(_carry(reader, up_writer), _carry(up_reader, writer))
        writer.close()
        del carrying[task]

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for writers in carrying.values():
            for writer in writers:
                writer.transport.abort()
        await asyncio.gather(*carrying)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    writer.close()
