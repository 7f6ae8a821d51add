"""Log events of the connections to Redis."""

from __future__ import annotations

from typing import Final

from shared.observability.logs import LogEvent

DEMOTED: Final = LogEvent(
    "redis.demoted",
    "Redis is no longer the master, as after a failover that cut no connection. All connections to"
    " it are replaced, at most once in 5 s. If it repeats, `REDIS_URL` still leads to a replica.",
)
PRIMARY: Final = LogEvent(
    "redis.primary", "The sentinels name the primary of Redis; at start, with its address."
)
FAILED_OVER: Final = LogEvent(
    "redis.failed-over",
    "The sentinels name another primary (`primary`; before, `old`). All connections to the old one"
    " are closed, even if it still answers.",
)
SENTINEL_LOST: Final = LogEvent(
    "redis.sentinel-lost",
    "A sentinel does not answer, or cannot name the primary; says why. Once per outage. Connections"
    " to Redis stay, but if most sentinels are lost, Redis cannot fail over.",
)
SENTINEL_BACK: Final = LogEvent("redis.sentinel-back", "A lost sentinel answers again.")

ALL: Final = (DEMOTED, PRIMARY, FAILED_OVER, SENTINEL_LOST, SENTINEL_BACK)
