"""Latencies in an HdrHistogram: 1 us to an hour, three digits, in counts of a fixed layout.

Layout and encoding (V2, compressed) are those of HdrHistogram, so that its tools can read the
reports. Implemented here because the Python package needs a C compiler on platforms without a wheel
(Linux on ARM), and the tests must install with Python alone.
"""

from __future__ import annotations

import base64
import struct
import zlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MIN_US: Final = 1
MAX_US: Final = 3_600_000_000
DIGITS: Final = 3

_HALF_BITS: Final = 10
"""2048 counts with steps finer than a thousandth, half of them in each bucket."""
_COOKIE: Final = 0x1C849303 | 0x10
_COMPRESSED_COOKIE: Final = 0x1C849304 | 0x10
_SEVEN_BITS: Final = 0x7F
_NINE_BYTES: Final = 8


class Histogram:
    """Counts of latencies in whole microseconds. Percentiles are the top of their step."""

    __slots__ = ("_counts", "count", "maximum", "minimum", "total")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.count = 0
        self.total = 0
        self.minimum = 0
        self.maximum = 0

    def record(self, values: Iterable[int]) -> None:
        """Add latencies; those out of range are clamped."""
        counts = self._counts
        for value in values:
            us = min(max(value, MIN_US), MAX_US)
            index = _index(us)
            counts[index] = counts.get(index, 0) + 1
            self.count += 1
            self.total += us
            self.maximum = max(self.maximum, us)
            if us < self.minimum or self.count == 1:
                self.minimum = us

    def merge(self, other: Histogram) -> None:
        """Add the counts of another histogram."""
        if not other.count:
            return
        for index, count in other._counts.items():
            self._counts[index] = self._counts.get(index, 0) + count
        self.minimum = min(self.minimum, other.minimum) if self.count else other.minimum
        self.maximum = max(self.maximum, other.maximum)
        self.count += other.count
        self.total += other.total

    @property
    def mean(self) -> float:
        """The mean in us; 0 if nothing was recorded."""
        return self.total / self.count if self.count else 0.0

    def percentile(self, percent: float) -> int:
        """Return the latency in us not exceeded by this percentage; 0 without any."""
        wanted = max(1, -(-int(percent * self.count * 1000) // 100_000))
        seen = 0
        for index in sorted(self._counts):
            seen += self._counts[index]
            if seen >= wanted:
                return min(_highest(index), self.maximum)
        return 0

    def steps(self) -> Iterator[tuple[float, int]]:
        """Yield rising values, each with the share (0 to 1) that did not exceed it."""
        seen = 0
        for index in sorted(self._counts):
            seen += self._counts[index]
            yield seen / self.count, min(_highest(index), self.maximum)

    def encoded(self) -> str:
        """Return HdrHistogram's base64 text (V2, compressed)."""
        payload = b"".join(self._words())
        head = struct.pack(">iiiiqqd", _COOKIE, len(payload), 0, DIGITS, MIN_US, MAX_US, 1.0)
        packed = zlib.compress(head + payload)
        return base64.b64encode(
            struct.pack(">ii", _COMPRESSED_COOKIE, len(packed)) + packed
        ).decode()

    def _words(self) -> Iterator[bytes]:
        """Yield counts, and runs of zeros as negative numbers, in ZigZag LEB128."""
        next_index = 0
        for index in sorted(self._counts):
            if index > next_index:
                yield _zigzag(next_index - index)
            yield _zigzag(self._counts[index])
            next_index = index + 1


def _index(us: int) -> int:
    """Return the index of a value among the counts."""
    bucket = max(0, us.bit_length() - _HALF_BITS - 1)
    return (bucket << _HALF_BITS) + (us >> bucket)


def _highest(index: int) -> int:
    """Return the highest value counted at this index."""
    bucket = max(0, (index >> _HALF_BITS) - 1)
    return ((index - (bucket << _HALF_BITS) + 1) << bucket) - 1


def _zigzag(number: int) -> bytes:
    value = number << 1 if number >= 0 else (-number << 1) - 1
    found = bytearray()
    while value > _SEVEN_BITS and len(found) < _NINE_BYTES:
        found.append(value & _SEVEN_BITS | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
