"""Log output as one JSON object per line: each admission logs a line.

A line is made in a single step, and the lines of one loop iteration are written together.
"""

from __future__ import annotations

import asyncio
import os
import select
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

WAITING_LIMIT_LINES: Final = 256
"""Maximum number of buffered lines before they are written at once."""

_NS_PER_SECOND: Final = 1_000_000_000
_encode: Final = msgspec.json.Encoder(enc_hook=str).encode


def printable(text: str) -> str:
    """Return text with unprintable characters escaped (ANSI, newlines, direction marks)."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


class Timestamp:
    """Formats times as ISO 8601 in UTC with microseconds; the text of the second is cached."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def of(self, ns: int) -> str:
        """Format nanoseconds since 1970."""
        second, rest = divmod(ns, _NS_PER_SECOND)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._text}.{rest // 1000:06}Z"


def make_json_logger(service: str, boot_id: str, level: int) -> type[FilteringBoundLogger]:
    """Return structlog's filtering logger with one step instead of a processor chain.

    The wrapped logger accepts a finished line: `put(bytes)`.
    """
    base: Any = structlog.make_filtering_bound_logger(level)
    timestamp = Timestamp()

    class JsonLogger(base):  # type: ignore[misc]  # structlog makes a class for each level
        def _proxy_to_logger(
            self, method_name: str, event: str | None = None, **fields: Any
        ) -> None:
            line: EventDict = {
                "timestamp": timestamp.of(time.time_ns()),
                "level": method_name,
                "event": event,
                **self._context,
                **fields,
                "service": service,
                "replica": boot_id,
            }
            if "exc_info" in line:
                line = structlog.processors.format_exc_info(self._logger, method_name, line)
            self._logger.put(_encode_line(line))

    return JsonLogger


def _encode_line(line: EventDict) -> bytes:
    """Encode a line and escape unprintable characters, except line ends in tracebacks.

    Most lines are plain ASCII without JSON escapes, which is quick to check.
    """
    data = _encode(line)
    if data.isascii() and b"\\" not in data and b"\x7f" not in data:
        return data
    for key, value in line.items():
        if type(value) is str and key != "exception":
            line[key] = printable(value)
    return _encode(line)


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
