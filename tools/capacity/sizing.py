"""Computes the gateways, approvals and Redis cores that a number of devices requires. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tools.capacity.costs import Costs

BUSY: Final = 0.6
"""Maximum load of a core: the rest is for bursts."""
CONNECTIONS_PER_GATEWAY: Final = 10_000
MIN_REPLICAS: Final = 2
SPREAD_SECONDS: Final = 20.0
"""Time to admit all devices again after closes spread over the same time."""
BEAT_SECONDS: Final = 1.0
CHANGES_A_DAY: Final = 1.0
"""Changes of each device's record per day."""
DAY_SECONDS: Final = 86_400.0
EDGE_CONNECTIONS: Final = 10_000
"""Connections that Railway's edge allows on one domain."""
SIZES: Final = (1_000, 100_000, 1_000_000)


@dataclass(frozen=True, slots=True)
class Size:
    """Requirements of a number of connected devices. A core is one process's single thread."""

    devices: int
    gateways: int
    gateway_mb: float
    approvals: int
    redis_rest: float
    redis_spread: float
    """When all devices are closed and admitted again, spread over time."""
    redis_mb: float
    news_kb_a_second: float
    domains: int
    drop_rate: float
    """Admissions per second when all devices are dropped at once, with `drop_limit` fully used."""
    drop_limit: str
    """The service that limits `drop_rate`."""

    @property
    def redis_holds(self) -> bool:
        """Whether one Redis, which is single-threaded, is sufficient for the spread closing."""
        return self.redis_spread <= BUSY

    @property
    def work_seconds(self) -> float:
        """How long the admissions of all devices take when they are dropped at once."""
        return self.devices / self.drop_rate


def size(devices: int, costs: Costs, spread_seconds: float = SPREAD_SECONDS) -> Size:
    """Return the requirements of this many devices, closed and admitted again over a time."""
    spread = devices / spread_seconds
    changes = devices * CHANGES_A_DAY / DAY_SECONDS
    gateways = max(
        MIN_REPLICAS,
        ceil(devices / CONNECTIONS_PER_GATEWAY),
        ceil((spread * costs.admission_gateway_us + devices * costs.idle_gateway_us) / 1e6 / BUSY),
    )
    beats = gateways / BEAT_SECONDS
    approval = beats * costs.beat_approval_us + changes * costs.change_approval_us
    rest = (beats * costs.beat_redis_us + changes * costs.change_redis_us) / 1e6
    approvals = max(
        MIN_REPLICAS,
        ceil((spread * costs.admission_approval_us + approval) / 1e6 / BUSY),
    )
    rates = {
        "gateways": gateways * 1e6 / costs.admission_gateway_us,
        "approvals": (approvals * 1e6 - approval) / costs.admission_approval_us,
        "Redis": (1 - rest) * 1e6 / costs.admission_redis_us,
    }
    limit = min(rates, key=rates.__getitem__)
    return Size(
        devices=devices,
        gateways=gateways,
        gateway_mb=devices / gateways * costs.connection_bytes / 1e6,
        approvals=approvals,
        redis_rest=rest,
        redis_spread=rest + spread * costs.admission_redis_us / 1e6,
        redis_mb=devices * costs.record_bytes / 1e6,
        news_kb_a_second=changes * costs.news_bytes * gateways / 1e3,
        domains=ceil(devices / EDGE_CONNECTIONS),
        drop_rate=rates[limit],
        drop_limit=limit,
    )


def rate_of_one_core(costs: Costs) -> float:
    """Return the admissions per second if all services share one core."""
    return 1e6 / (
        costs.admission_gateway_us + costs.admission_approval_us + costs.admission_redis_us
    )


def limit_of_one_redis(costs: Costs, spread_seconds: float = SPREAD_SECONDS) -> int:
    """Return the maximum number of devices for one Redis, in thousands."""
    low, high = 1, 100_000
    while high - low > 1:
        middle = (low + high) // 2
        if size(middle * 1_000, costs, spread_seconds).redis_holds:
            low = middle
        else:
            high = middle
    return low * 1_000
