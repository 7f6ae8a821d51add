"""Services that reach Redis through sentinels, with a proxy before each server."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager, closing
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any, Final

from tools.support.processes.redis import PEER, RedisServer
from tools.support.processes.sentinel import FAILOVER_SECONDS, ReplicaSet
from tools.support.processes.stack import Stack
from tools.support.proxies.users import UserLink, UserProxy
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tools.support.processes.service import ServiceProcess

FAILED_OVER: Final = "redis.failed-over"


class SentinelStack:
    """One approval, two gateways, and a Redis with replicas and sentinels.

    `peers` has, for each server, the link of its replicas and sentinels to it.
    """

    def __init__(self, redis: ReplicaSet, stack: Stack, peers: list[UserLink]) -> None:
        self.redis: Final = redis
        self.stack: Final = stack
        self.peers: Final = peers

    def peers_of(self, server: RedisServer) -> UserLink:
        """Return the link of a server's replicas and sentinels to it."""
        return self.peers[self.redis.servers.index(server)]

    async def failed_over(self, times: int = 1) -> None:
        """Wait until every service has noticed this many failovers."""
        for service in self.stack.services:
            await until(
                lambda at=service: len(events(at, FAILED_OVER)) >= times,  # type: ignore[misc]
                f"{service.name} has noticed the failover",
                seconds=FAILOVER_SECONDS,
            )

    async def ready(self) -> None:
        """Wait until every service is ready."""
        for service in self.stack.services:
            await service.until_ready()

    async def bring_back(self) -> None:
        """Make sure that Redis is whole again."""
        for link in self.peers:
            link.pass_on()
        await asyncio.to_thread(self.redis.bring_back)


@asynccontextmanager
async def sentinel_stack(directory: Path, *, min_replicas: int = 1) -> AsyncIterator[SentinelStack]:
    """Start everything, and wait until it is ready."""
    async with AsyncExitStack() as exits:
        redis = ReplicaSet(directory / "redis", min_replicas=min_replicas)
        exits.callback(redis.close)
        peers = [UserLink() for _ in redis.servers]
        proxies = [
            await exits.enter_async_context(UserProxy(server.port, {PEER: link}))
            for server, link in zip(redis.servers, peers, strict=True)
        ]
        await asyncio.to_thread(redis.start, [proxy.port for proxy in proxies])
        stack = Stack(directory, approvals=1, gateways=2)
        exits.callback(stack.close)
        for kind, url in (
            (stack.approvals, redis.approval_url),
            (stack.gateways, redis.gateway_url),
        ):
            for service in kind:
                service.start(REDIS_URL=url)
        started = SentinelStack(redis, stack, peers)
        await started.ready()
        yield started


def events(service: ServiceProcess, name: str) -> list[dict[str, Any]]:
    """Return the log lines of an event."""
    return [line for line in service.logs() if line.get("event") == name]


def said_of(service: ServiceProcess, dependency: str) -> dict[str, Any]:
    """Return what `/readyz` says of a dependency."""
    with closing(HTTPConnection("127.0.0.1", service.port)) as connection:
        connection.request("GET", "/readyz")
        found: dict[str, Any] = json.load(connection.getresponse())["dependencies"][dependency]
    return found
