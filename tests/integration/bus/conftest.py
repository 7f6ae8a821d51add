"""Fixtures shared by the tests of the bus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.redis.access import make_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from tools.support.processes.redis import RedisServer


@pytest.fixture
async def admin(redis_server: RedisServer) -> AsyncIterator[Redis]:
    client = make_client(redis_server.admin_url, max_connections=1, timeout_seconds=5.0)
    yield client
    await client.aclose()
