"""Redis with replicas and sentinels in a drill, with a proxy in front of each server."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, Self

from tools.support.processes.redis import PEER
from tools.support.processes.sentinel import ReplicaSet
from tools.support.proxies.users import UserLink, UserProxy
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tools.support.processes.redis import RedisServer

POLL_SECONDS: Final = 0.01


class DrillSentinels:
    """Three servers, three sentinels; each service logs in with a user of its own.

    `links` are the Redis links by service, to whichever server it is connected.
    """

    def __init__(
        self, directory: Path, *, gateways: Sequence[str], approvals: Sequence[str]
    ) -> None:
        own = directory / "redis-with-sentinels"
        self._users = dict.fromkeys(gateways, "gateway") | dict.fromkeys(approvals, "approval")
        self.redis: Final = ReplicaSet(own, aliases=self._users)
        self.links: Final = {name: UserLink() for name in self._users}
        self._peers = [UserLink() for _ in self.redis.servers]
        self._ports: list[int] = []
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._exits.callback(self.redis.close)
        try:
            for server, peer in zip(self.redis.servers, self._peers, strict=True):
                proxy = UserProxy(server.port, {PEER: peer, **self.links})
                await self._exits.enter_async_context(proxy)
                self._ports.append(proxy.port)
            await asyncio.to_thread(self.redis.start, self._ports)
        except BaseException:
            await self._exits.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    def url_of(self, name: str) -> str:
        """Return the URL of a service."""
        first = self.redis.servers[0]
        of = self._users[name]
        url = first.gateway_url if of == "gateway" else first.approval_url
        return self.redis.url(url.replace(f"//{of}:", f"//{name}:"))

    def peers_of(self, server: RedisServer) -> UserLink:
        """Return the link of a server's replicas and sentinels to it."""
        return self._peers[self.redis.servers.index(server)]

    async def named_another(self, old: RedisServer) -> None:
        """Wait until a sentinel names another primary than this server."""
        port = self._ports[self.redis.servers.index(old)]
        while True:
            if not await asyncio.to_thread(self.redis.named_ports) <= {port}:
                return
            await asyncio.sleep(POLL_SECONDS)

    async def bring_back(self) -> None:
        """Make sure that everything runs, and that all replicas follow one primary."""
        for link in (*self._peers, *self.links.values()):
            link.pass_on()
        await asyncio.to_thread(self.redis.bring_back)
        await until(self.redis.is_whole, "Redis is whole")
