"""Measured unit costs, from which the sizes are derived.

Measured with `python -m tools.capacity --measure` on two cores with other work, at LOG_LEVEL=info,
Redis with appendfsync always. µs are CPU of the whole process per unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU in µs, memory and traffic in bytes."""

    admission_gateway_us: float
    """An admission, 64 at a time: 1,000,000 divided by it is the admissions a second of a core."""
    admission_approval_us: float
    admission_redis_us: float
    beat_approval_us: float
    """A heartbeat with its presence; too high, because it includes the process's idle cost."""
    beat_redis_us: float
    change_approval_us: float
    """A change through the HTTP API, which waits for the disk."""
    change_redis_us: float
    idle_gateway_us: float
    """An idle connection, per second: pings and ticks."""
    connection_bytes: float
    """An idle connection in a gateway."""
    record_bytes: float
    """A record in Redis with its index entry and last-seen key."""
    news_bytes: float
    """A change, as sent to each subscriber."""


MEASURED: Final = Costs(
    admission_gateway_us=479,
    admission_approval_us=85,
    admission_redis_us=15,
    beat_approval_us=1375,
    beat_redis_us=750,
    change_approval_us=1500,
    change_redis_us=525,
    idle_gateway_us=4,
    connection_bytes=5_630,
    record_bytes=1_227,
    news_bytes=258,
)
