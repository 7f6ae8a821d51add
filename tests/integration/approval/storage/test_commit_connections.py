"""Commits that wait for a Redis replica give their connections back, whatever Redis does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from services.approval.domain.errors import StoreUnavailable
from services.approval.storage.store import Store
from shared.clock import SystemClock
from shared.redis.access import make_client
from tests.integration.approval.storage.plans import plan, run
from tools.support.processes.redis import RedisServer

if TYPE_CHECKING:
    from pathlib import Path

CONNECTIONS = 8


async def test_commits_that_redis_did_not_answer_hold_no_connections(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    client = make_client(
        redis_server.approval_url, max_connections=CONNECTIONS, timeout_seconds=1.0
    )
    store = Store(client, SystemClock())
    store.has_replicas = True
    try:
        await asyncio.gather(*(client.ping() for _ in range(CONNECTIONS)))  # opens all of them
        redis_server.pause()
        try:
            outcomes = await asyncio.gather(
                *(run(store, plan()) for _ in range(CONNECTIONS)), return_exceptions=True
            )
        finally:
            redis_server.resume()
        assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes), outcomes
        with RedisServer(tmp_path) as copy:
            copy.follow(redis_server)
            assert (await run(store, plan())).outcome == "done"
    finally:
        await client.aclose()
