"""All faults in their order; the one that loses all data is the last one of its stack."""

from __future__ import annotations

from typing import Final

from tools.drills.faults import clocks, keys, links, redis, rolling, sentinel, services, upstream

ALL: Final = (
    *services.FAULTS,
    *rolling.FAULTS,
    *redis.FAULTS,
    *keys.FAULTS,
    *links.FAULTS,
    *clocks.FAULTS,
    redis.FORGETTING,
    *upstream.FAULTS,
)
WITH_SENTINELS: Final = (
    *sentinel.FAULTS,
    *(fault for fault in ALL if fault is not redis.BEYOND_LEASE),
)
"""A Redis that is paused for long is failed over, which is among the faults of sentinels."""
