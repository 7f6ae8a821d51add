"""Classifies errors of a lost Redis connection."""

from __future__ import annotations

from redis.exceptions import RedisError


def is_lost(error: BaseException | None) -> bool:
    """Distinguish the errors of a lost connection from those of a bug.

    Writing to a closed transport raises RuntimeError: uvloop says "the handler is closed", asyncio
    "Cannot write to closing transport" or "Cannot call write() after write_eof()".
    """
    if isinstance(error, RedisError | OSError | TimeoutError | EOFError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        part in text for part in ("is closed", "closing transport", "after write_eof")
    )
