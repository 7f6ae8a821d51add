"""On-demand gzip compression of files, cached in memory."""

from __future__ import annotations

import asyncio
import gzip
from typing import Final

from services.gateway.dashboard.files import Stored, read_piece
from services.gateway.dashboard.paths import compressible

COMPRESSED_MIN_BYTES: Final = 1_024
"""Smaller files are sent uncompressed: the gain is negligible."""
COMPRESSED_MAX_BYTES: Final = 8 * 1024 * 1024
"""Larger files are sent uncompressed: compression loads the whole file into memory."""
CACHE_LIMIT_BYTES: Final = 32 * 1024 * 1024
"""Cap on the whole cache; a file that does not fit is sent uncompressed."""


class Compressed:
    """A cache of compressed files, each compressed on its first request."""

    def __init__(self, limit_bytes: int = CACHE_LIMIT_BYTES) -> None:
        self._cache: dict[str, bytes | None] = {}
        self._free_bytes = limit_bytes
        self._lock = asyncio.Lock()

    async def gzip_of(self, path: str, stored: Stored) -> bytes | None:
        """Return a file as gzip, or None to send it uncompressed. Raises ChangedSinceStartError."""
        if not compressible(path) or not (
            COMPRESSED_MIN_BYTES <= stored.size <= COMPRESSED_MAX_BYTES
        ):
            return None
        if path not in self._cache:
            # Shielded: if the client leaves, the thread still runs, so the lock must stay held.
            await asyncio.shield(self._compress(path, stored))
        return self._cache[path]

    async def _compress(self, path: str, stored: Stored) -> None:
        async with self._lock:
            if path not in self._cache:
                self._store(path, await asyncio.to_thread(_gzip, stored), stored.size)

    def _store(self, path: str, form: bytes, plain_size: int) -> None:
        fits = len(form) < plain_size and len(form) <= self._free_bytes
        self._cache[path] = form if fits else None
        if fits:
            self._free_bytes -= len(form)


def _gzip(stored: Stored) -> bytes:
    return gzip.compress(read_piece(stored, 0, stored.size), mtime=0)
