"""All faults in their order; the one that loses all data is the last one of its stack."""

from __future__ import annotations

from typing import Final

from tools.drills.faults import clocks, keys, links, redis, rolling, services, upstream

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
