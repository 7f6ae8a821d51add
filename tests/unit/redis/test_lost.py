"""Which errors count as a lost connection to Redis."""

from __future__ import annotations

import pytest
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import ResponseError

from services.approval.domain.errors import StoreUnavailable
from services.approval.storage.redis import reaching_redis
from shared.redis.lost import is_lost

CLOSED_UVLOOP = "unable to perform operation on <TCPTransport closed=True>; the handler is closed"


@pytest.mark.parametrize(
    "error",
    [
        LostError("x"),
        ResponseError("LOADING"),
        ConnectionResetError(),
        TimeoutError(),
        EOFError(),
        RuntimeError(CLOSED_UVLOOP),
        RuntimeError("Cannot write to closing transport"),
        RuntimeError("Cannot call write() after write_eof()"),
    ],
)
async def test_whatever_a_closed_connection_raises_leaves_the_outcome_unknown(
    error: Exception,
) -> None:
    assert is_lost(error)
    with pytest.raises(StoreUnavailable):
        async with reaching_redis():
            raise error


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ValueError("a bug"), KeyError("a bug")])
async def test_a_bug_stays_a_bug(error: Exception) -> None:
    assert not is_lost(error)
    with pytest.raises(type(error)):
        async with reaching_redis():
            raise error
