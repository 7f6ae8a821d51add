"""An attacker that holds the Redis URLs of a stack without being one of its services."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any

import redis.asyncio as redis_asyncio

from shared.bus.channels import EVENTS, ask_channel, inbox_channel
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack


def redis_client(url: str) -> redis_asyncio.Redis:
    return redis_asyncio.Redis.from_url(url, protocol=2)


class Intruder:
    """An attacker with Redis URLs, who publishes on each channel with a user that may do so.

    Gateways may publish requests, approvals may publish answers and events, and an administrator
    may do anything.
    """

    def __init__(self, asking: str, answering: str) -> None:
        self._asking = redis_client(asking)
        self._answering = redis_client(answering)

    async def publish(self, channel: str, data: bytes) -> int:
        """Publish, and return the number of receivers."""
        asks = channel.startswith(ask_channel(""))
        heard: int = await (self._asking if asks else self._answering).publish(channel, data)
        return heard

    async def aclose(self) -> None:
        """Close the connections."""
        await self._asking.aclose()
        await self._answering.aclose()


@contextlib.asynccontextmanager
async def captured(stack: Stack) -> AsyncIterator[list[tuple[str, bytes]]]:
    """Collect everything that is published meanwhile, as a Redis administrator can."""
    messages: list[tuple[str, bytes]] = []
    client = redis_client(stack.redis.admin_url)
    pubsub: Any = client.pubsub()
    await pubsub.psubscribe("latchkey:*")
    await until_subscribed(pubsub)

    async def collect() -> None:
        async for message in pubsub.listen():
            messages.append((message["channel"].decode(), message["data"]))  # noqa: PERF401 (live)

    collecting = asyncio.create_task(collect())
    try:
        yield messages
        end = os.urandom(8)
        await client.publish(EVENTS, end)
        await until(lambda: (EVENTS, end) in messages, "all was collected")
    finally:
        collecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await collecting
        await pubsub.aclose()
        await client.aclose()
    messages[:] = [message for message in messages if message[1] != end]


async def until_subscribed(pubsub: Any) -> None:
    async with asyncio.timeout(10):
        while (await pubsub.get_message(timeout=1.0) or {}).get("type") != "psubscribe":
            pass


def channels(stack: Stack) -> dict[str, ServiceProcess]:
    """Return the private channel of each service."""
    return {
        **{ask_channel(approval.boot_id): approval for approval in stack.approvals},
        **{inbox_channel(gateway.boot_id): gateway for gateway in stack.gateways},
    }
