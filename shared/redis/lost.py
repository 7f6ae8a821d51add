"""Which errors say that a connection to Redis is lost."""

from __future__ import annotations

from redis.exceptions import RedisError


def is_lost(error: BaseException | None) -> bool:
    """Tell the errors of a lost connection from those of a bug.

    Using a transport that is closed raises RuntimeError: uvloop says "the handler is closed",
    asyncio "Cannot write to closing transport" or "Cannot call write() after write_eof()".
    """
    if isinstance(error, RedisError | OSError | TimeoutError | EOFError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        part in text for part in ("is closed", "closing transport", "after write_eof")
    )
