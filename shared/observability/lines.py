"""Where log lines go: those of one turn of the event loop leave in one write, each whole."""

from __future__ import annotations

import asyncio
import os
import select
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from structlog.typing import WrappedLogger

WAITING_LIMIT_LINES: Final = 256
"""When so many wait they are written at once, in the middle of a turn."""


class Lines:
    """Collects lines and writes them to a file descriptor, in their order.

    They are written at the end of the turn of the loop, and at once where no loop runs. Call
    `flush` before the process ends. What nobody reads any more (a broken pipe) is dropped.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._waiting: list[bytes] = []
        self._flushed_by: asyncio.AbstractEventLoop | None = None
        self._flushing = threading.Lock()

    def put(self, line: bytes) -> None:
        """Take a line without its end, from any thread."""
        self._waiting.append(line)
        soon = self._flushed_by
        if len(self._waiting) >= WAITING_LIMIT_LINES:
            self.flush()
        elif soon is None or not soon.is_running():
            # Asking which loop runs costs a system call, so it is not asked for each line.
            self._flush_soon()

    def flush(self) -> None:
        """Write what waits; whoever is writing already writes this as well.

        Nobody waits here: a finalizer that logs may run in the midst of a flush.
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
        """Be the logger that structlog makes, whatever it is called."""
        return self


def _write(fd: int, data: bytes) -> None:
    """Write all of it, however slowly it is read; also where the descriptor does not block."""
    rest = memoryview(data)
    try:
        while rest:
            try:
                rest = rest[os.write(fd, rest) :]
            except BlockingIOError:
                select.select((), (fd,), ())
    except OSError:
        return
