"""Sends files in chunks, at the speed of the client."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from services.gateway.dashboard.files import ChangedSinceStartError, Stored, read_piece

if TYPE_CHECKING:
    from aiohttp import web

PIECE_BYTES: Final = 64 * 1024
"""The size of a chunk; a slow client keeps one or two in memory."""


class Form(NamedTuple):
    """The body of a response, in memory or on disk, and its content coding."""

    body: bytes | Stored
    coding: str | None = None

    @property
    def size(self) -> int:
        """The size in bytes."""
        return self.body.size if isinstance(self.body, Stored) else len(self.body)

    async def piece(self, start: int) -> bytes:
        """Return the chunk at `start` without blocking the loop. Raises ChangedSinceStartError."""
        if isinstance(self.body, Stored):
            return await asyncio.to_thread(read_piece, self.body, start, PIECE_BYTES)
        return self.body[start : start + PIECE_BYTES]


async def send(
    request: web.Request, response: web.StreamResponse, form: Form, first: bytes
) -> None:
    """Send a response with a form as its body; `first` is the form's first chunk.

    The connection is aborted if the file changes.
    """
    transport = request.transport
    if transport is None:
        return
    try:
        await response.prepare(request)
        piece, sent = first if request.method == "GET" else b"", 0
        while piece and sent + len(piece) < form.size:
            await response.write(piece)
            sent += len(piece)
            piece = await form.piece(sent)
        await response.write_eof(piece)
    except ConnectionError:
        pass  # the client is gone
    except ChangedSinceStartError:
        transport.abort()
