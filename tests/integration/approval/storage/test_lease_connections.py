"""Heartbeats do not wait for admissions or HTTP requests."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from services.approval.domain.errors import StoreUnavailable
from services.approval.storage.store import Store
from shared.redis.access import make_client
from shared.rpc.messages import HeartbeatQuestion, Position
from tests.support.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from tools.support.processes.redis import RedisServer

TAKEN_SECONDS = 0.2
"""The time limit for obtaining a connection in these tests."""


@pytest.fixture
async def clients(redis_server: RedisServer) -> AsyncIterator[tuple[Redis, Redis]]:
    """Return a client whose only connection is in use, and one for leases."""
    async with AsyncExitStack() as stack:
        taken, lease = (
            make_client(redis_server.approval_url, max_connections=1, timeout_seconds=TAKEN_SECONDS)
            for _ in range(2)
        )
        stack.push_async_callback(taken.aclose)
        stack.push_async_callback(lease.aclose)
        pool: Any = taken.connection_pool  # its types are incomplete
        stack.push_async_callback(pool.release, await pool.get_connection())
        yield taken, lease


async def test_heartbeats_and_liveness_pass_when_all_other_connections_are_taken(
    clients: tuple[Redis, Redis],
) -> None:
    taken, lease = clients
    store = Store(taken, FakeClock(), lease=lease)
    with pytest.raises(StoreUnavailable):
        await store.count_paired()
    await store.liveness.write_alive("here")
    answer = await store.heartbeats.answer(
        "a gateway", HeartbeatQuestion(7, Position(), booted=False, builds_on=0, connections=0)
    )
    assert answer.heartbeat_id == 7
    await store.liveness.write_gone("here")
