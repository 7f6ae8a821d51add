"""What readiness, logs and the doctor say of a Redis that cannot be used: one sentence each."""

from __future__ import annotations

from typing import Final

IS_SENTINEL: Final = (
    "is a sentinel, not a Redis server: REDIS_URL must start with redis+sentinel://"
)
NOT_SENTINEL: Final = (
    "is not a sentinel: REDIS_URL must start with redis:// or rediss:// for one Redis server"
)
SERVICE_UNKNOWN: Final = "is not known to the sentinels: correct the service's name in REDIS_URL"
READ_ONLY: Final = (
    "Redis is a replica and takes no writes (READONLY): REDIS_URL must lead to the primary"
)
FEW_REPLICAS: Final = (
    "Redis takes no writes because too few replicas are connected to it "
    "(NOREPLICAS, min-replicas-to-write)"
)
