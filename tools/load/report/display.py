"""The live display: one updated line on a terminal, occasional plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from tools.load.recording import Point

PLAIN_SECONDS: Final = 5.0
CLEAR_LINE: Final = "\r\x1b[2K"


class Display:
    """Shows progress on standard error; the report goes to standard output."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._last = 0.0

    def count(self, description: str, done: int, whole: int) -> None:
        """Show how many of a whole are done."""
        if self._live:
            self._write(
                f"{CLEAR_LINE}{description}: {done} of {whole}{'' if done < whole else chr(10)}"
            )
        elif done == whole:
            self._write(f"{description}: {done}\n")

    def point(self, name: str, seconds: float, point: Point, servers: str) -> None:
        """Show the latest interval."""
        now = time.monotonic()
        if not self._live and now - self._last < PLAIN_SECONDS:
            return
        self._last = now
        parts = [f"{seconds:6.1f} s  {name}"]
        if point.held:
            parts.append(f"{point.held} held")
        parts.append(f"{point.admitted:.0f} admitted/s")
        if point.refused:
            parts.append(f"{point.refused:.0f} refused/s")
        if point.p99_us:
            parts.append(f"p50 {point.p50_us / 1000:.1f} ms, p99 {point.p99_us / 1000:.1f} ms")
        if point.others:
            parts.append(f"{point.others:.0f} other/s")
        if point.in_flight:
            parts.append(f"{point.in_flight} in flight")
        if servers:
            parts.append(servers)
        line = ", ".join(parts)
        self._write(f"{CLEAR_LINE}{line}" if self._live else f"{line}\n")

    def close(self) -> None:
        """Clear the line for the report."""
        if self._live:
            self._write(CLEAR_LINE)

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
