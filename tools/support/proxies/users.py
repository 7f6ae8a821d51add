"""A TCP proxy for Redis whose faults concern the connections of single users.

Replicas, sentinels and services reach a server at the same address, but log in as different users.
So a server can be cut off from its replicas, and still serve everybody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, Final, Self

from tools.support.proxies.faults import HOST, READ_BYTES, Ending, Way, abort, end

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOGIN: Final = re.compile(rb"\r\nAUTH\r\n\$\d+\r\n([^\r\n]+)\r\n", re.IGNORECASE)
QUEUED_READS_LIMIT: Final = 1_000
"""Maximum buffered reads per direction of a connection; beyond it, the sender waits."""


class UserLink:
    """What happens to all connections of one user, at every proxy that has this link.

    It forwards everything by default; each method replaces the previous mode, as in FaultProxy.
    """

    def __init__(self) -> None:
        self._held: frozenset[Way] = frozenset()
        self._delay_seconds = 0.0
        self._ending: Ending | None = None
        self._changed = asyncio.Event()
        self._connections: set[_Relayed] = set()

    def pass_on(self) -> None:
        """Forward everything immediately, held data first."""
        self._set()

    def delay(self, seconds: float) -> None:
        """Delay everything by this many seconds in each direction."""
        self._set(delay_seconds=seconds)

    def hold(self, *ways: Way) -> None:
        """Hold data in these directions or in both; new connections are still accepted."""
        self._set(held=frozenset(ways or Way))

    def cut(self) -> None:
        """Close all connections normally, including new ones once they log in."""
        self._set(ending=Ending.CLOSE)

    def reset(self) -> None:
        """Reset all connections, including new ones once they log in."""
        self._set(ending=Ending.RESET)

    def join(self, connection: _Relayed) -> None:
        """Take over a connection that has logged in."""
        self._connections.add(connection)
        if self._ending is not None:
            connection.end(self._ending)

    def leave(self, connection: _Relayed) -> None:
        """Forget a connection."""
        self._connections.discard(connection)

    def due(self) -> float:
        """Return when data that has just been read is to be forwarded."""
        return asyncio.get_running_loop().time() + self._delay_seconds

    async def opened(self, way: Way) -> None:
        """Wait while this direction is held."""
        while way in self._held:
            await self._changed.wait()

    def _set(
        self,
        *,
        held: frozenset[Way] = frozenset(),
        delay_seconds: float = 0.0,
        ending: Ending | None = None,
    ) -> None:
        self._held, self._delay_seconds, self._ending = held, delay_seconds, ending
        self._changed.set()
        self._changed = asyncio.Event()
        if ending is not None:
            for connection in list(self._connections):
                connection.end(ending)


class UserProxy:
    """Forwards TCP connections to a port; `links` has what happens to each user's connections."""

    def __init__(self, port: int, links: Mapping[str, UserLink]) -> None:
        self._to = port
        self._links = links
        self._other = UserLink()
        self._relaying: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._relaying:
            task.cancel()
        await asyncio.gather(*self._relaying, return_exceptions=True)
        await abort(self._writers)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(HOST, self._to)
        except OSError:
            end(writer, Ending.RESET)
            return
        self._writers |= {writer, back}
        relayed = _Relayed(self._links, self._other, writer, back)
        both = [
            asyncio.create_task(relayed.carry(Way.THERE, reader, back)),
            asyncio.create_task(relayed.carry(Way.BACK, there, writer)),
        ]
        self._relaying.update(both)
        await asyncio.wait(both)
        self._relaying.difference_update(both)
        relayed.leave()
        if not any(task.cancelled() for task in both):
            self._writers -= {writer, back}
            for one in (writer, back):
                one.close()


class _Relayed:
    """One connection; it belongs to a user once a login has been read."""

    def __init__(
        self,
        links: Mapping[str, UserLink],
        other: UserLink,
        *writers: asyncio.StreamWriter,
    ) -> None:
        self._links = links
        self._link = other
        self._logged_in = False
        self._writers = writers

    def end(self, ending: Ending) -> None:
        for writer in self._writers:
            end(writer, ending)

    def leave(self) -> None:
        self._link.leave(self)

    async def carry(
        self, way: Way, source: asyncio.StreamReader, target: asyncio.StreamWriter
    ) -> None:
        """Forward one direction's data and its end."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUED_READS_LIMIT)

        async def read() -> None:
            data = b"?"
            while data:
                try:
                    data = await source.read(READ_BYTES)
                except OSError:
                    data = b""
                if way is Way.THERE and not self._logged_in:
                    self._look_at(data)
                await queue.put((self._link.due(), data))

        reading = asyncio.create_task(read())
        now = asyncio.get_running_loop().time
        try:
            with contextlib.suppress(OSError):
                while True:
                    due, data = await queue.get()
                    await asyncio.sleep(max(0.0, due - now()))
                    await self._link.opened(way)
                    if not data:
                        break
                    target.write(data)
                    await target.drain()
            target.close()
        finally:
            reading.cancel()

    def _look_at(self, data: bytes) -> None:
        found = _LOGIN.search(data)
        if found is None:
            return
        self._logged_in = True
        link = self._links.get(found[1].decode())
        if link is not None:
            self._link = link
            link.join(self)
