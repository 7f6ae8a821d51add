"""Log output: the lines of one loop iteration are written together, each in one piece."""

from __future__ import annotations

import asyncio
import os
import select
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from structlog.typing import WrappedLogger

WAITING_LIMIT_LINES: Final = 256
"""Maximum number of buffered lines before they are written at once."""


class Lines:
    """Buffers lines and writes them to a file descriptor in order.

    They are written at the end of the loop iteration, or immediately if no loop is running. Call
    `flush` before the process ends. Lines to a broken pipe are dropped.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._waiting: list[bytes] = []
        self._flushed_by: asyncio.AbstractEventLoop | None = None
        self._flushing = threading.Lock()

    def put(self, line: bytes) -> None:
        """Add a line without its line end, from any thread."""
        self._waiting.append(line)
        soon = self._flushed_by
        if len(self._waiting) >= WAITING_LIMIT_LINES:
            self.flush()
        elif soon is None or not soon.is_running():
            # Finding the running loop costs a system call, so it is not done for every line.
            self._flush_soon()

    def flush(self) -> None:
        """Write buffered lines; a flush in progress writes these as well.

        It never blocks on a lock: a finalizer that logs may run during a flush.
        """
        self._flushed_by = None
        while self._waiting and self._flushing.acquire(blocking=False):
            try:
                waiting = self._waiting[:WAITING_LIMIT_LINES]
                del self._waiting[: len(waiting)]
                _write(self._fd, b"\n".join((*waiting, b"")))
            finally:
                self._flushing.release()

    def _flush_soon(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
        else:
            self._flushed_by = loop
            loop.call_soon(self.flush)

    def __call__(self, *_name: object) -> WrappedLogger:
        """Act as structlog's logger factory."""
        return self


def _write(fd: int, data: bytes) -> None:
    """Write all data, even to slow readers and non-blocking descriptors."""
    rest = memoryview(data)
    try:
        while rest:
            try:
                rest = rest[os.write(fd, rest) :]
            except BlockingIOError:
                select.select((), (fd,), ())
    except OSError:
        return
