"""An administrator's connection to the Redis of a stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis as redis_py

if TYPE_CHECKING:
    from tools.support.processes.stack import Stack


def admin(stack: Stack) -> Any:
    """Return a Redis client with full rights."""
    return redis_py.Redis.from_url(stack.redis.admin_url)


def cut(stack: Stack, gateway_boot_id: str) -> int:
    """Kill every connection that a gateway has to Redis; returns how many."""
    with admin(stack) as client:
        name = f"latchkey-{gateway_boot_id[:8]}"
        ids = [item["id"] for item in client.client_list() if item["name"] == name]
        for number in ids:
            client.client_kill_filter(_id=number)
        return len(ids)


def subscribers(stack: Stack, channel: str) -> int:
    """Return the number of subscribers of a channel."""
    with admin(stack) as client:
        ((_, number),) = client.pubsub_numsub(channel)
        return int(number)
