"""The one way of saying that Redis could not be reached."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from services.approval.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def reaching_redis() -> AsyncIterator[None]:
    """Raise StoreUnavailable for whatever goes wrong with Redis."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreUnavailable(f"{type(error).__name__}: {error}") from error
