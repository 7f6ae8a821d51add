"""Reads of many keys, which pass their values to a function instead of returning them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from services.approval.domain.errors import StoreUnavailable
from shared.redis.lost import is_lost

if TYPE_CHECKING:
    from redis.asyncio import Redis

Values = list[bytes | None]
Read = Callable[[list[str], Callable[[Values | Exception], object]], None]
"""Reads keys, and passes their values or the error to a function, in a later turn of the loop."""


def read_with(client: Redis) -> Read:
    """Return a function that reads with the client's own MGET."""
    return partial(_read_with, client)


async def values_of(read: Read, keys: list[str]) -> Values:
    """Return the values of the keys; raises StoreUnavailable if Redis is lost."""
    reading: asyncio.Future[Values | Exception] = asyncio.get_running_loop().create_future()

    def then(values: Values | Exception) -> None:
        if not reading.cancelled():
            reading.set_result(values)

    read(keys, then)
    return without_error(await reading)


def without_error(values: Values | Exception) -> Values:
    """Return the values of a read, or raise its error; raises StoreUnavailable if Redis is lost."""
    if not isinstance(values, Exception):
        return values
    if is_lost(values):
        raise StoreUnavailable(f"{type(values).__name__}: {values}") from values
    raise values


def _read_with(client: Any, keys: list[str], then: Callable[[Values | Exception], object]) -> None:
    def on_values(reading: asyncio.Future[Values]) -> None:
        if reading.cancelled():
            then(StoreUnavailable("the read was cancelled"))
        else:
            error = reading.exception()
            then(error if isinstance(error, Exception) else reading.result())

    asyncio.ensure_future(client.mget(keys)).add_done_callback(on_values)
