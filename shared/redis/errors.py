"""Errors of the way to Redis, and which sentence describes an error.

redis.exceptions.ConnectionError
├── WrongServer         something answers that is not the server wanted
└── PrimaryUnknown      no sentinel names a primary
"""

from __future__ import annotations

from typing import Final

from redis.exceptions import ConnectionError as LostError
from redis.exceptions import RedisError

from shared.redis.sentences import FEW_REPLICAS, IS_SENTINEL, READ_ONLY

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
