"""Errors of the way to Redis, and sentences about what Redis refuses.

redis.exceptions.ConnectionError
├── WrongServer         something answers that is not the server wanted
└── PrimaryUnknown      no sentinel names a primary
"""

from __future__ import annotations

from typing import Final

from redis.exceptions import ConnectionError as LostError
from redis.exceptions import RedisError

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

_SENTENCES: Final = (
    ("READONLY", READ_ONLY),
    ("read only replica", READ_ONLY),
    ("NOREPLICAS", FEW_REPLICAS),
    ("Only HELLO messages are accepted by Sentinel", f"Redis {IS_SENTINEL}"),
)


class WrongServer(LostError):
    """A server answers, but not in the role that is needed."""


class PrimaryUnknown(LostError):
    """No sentinel names a primary."""


def explain(error: Exception) -> str:
    """Describe an error of Redis for people: one sentence if the cause is known."""
    text = str(error)
    if isinstance(error, WrongServer | PrimaryUnknown) or isinstance(
        error.__cause__, WrongServer | PrimaryUnknown
    ):
        return text
    if isinstance(error, RedisError):
        for part, sentence in _SENTENCES:
            if part in text:
                return sentence
    return f"{type(error).__name__}: {text or 'no answer in time'}"


def refuses_writes(error: BaseException | None) -> bool:
    """Return whether Redis refuses all writes now: it is a replica, or lacks replicas."""
    return isinstance(error, RedisError) and any(
        part in str(error) for part in ("READONLY", "read only replica", "NOREPLICAS")
    )
