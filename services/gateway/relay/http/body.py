"""The body of a request on its way to the upstream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import StreamReader

HEAD_BYTES: Final = 64 * 1024
"""How much of a body is read before a connection to the upstream is used; most are smaller."""
PAUSE_SECONDS: Final = 5.0
"""How long a client may pause while a connection to the upstream waits for the rest of a body."""


class RequestBody:
    """Reads the beginning of a body first, and streams the rest of a long one."""

    def __init__(self, content: StreamReader, *, pause_seconds: float = PAUSE_SECONDS) -> None:
        self._content = content
        self._pause_seconds = pause_seconds
        self._head = bytearray()
        self.paused = False
        """Whether the client sent nothing for too long."""

    async def read_head(self) -> None:
        """Wait for the whole body, or for the beginning of a long one."""
        while len(self._head) < HEAD_BYTES and not self._content.at_eof():
            self._head += await self._content.readany()

    def data(self) -> bytes | AsyncIterator[bytes]:
        """Return the body: bytes if all of it has arrived."""
        return bytes(self._head) if self._content.at_eof() else self._stream()

    async def _stream(self) -> AsyncIterator[bytes]:
        yield bytes(self._head)
        self._head.clear()
        while not self._content.at_eof():
            try:
                async with asyncio.timeout(self._pause_seconds):
                    piece = await self._content.readany()
            except TimeoutError:
                self.paused = True
                raise
            yield piece
