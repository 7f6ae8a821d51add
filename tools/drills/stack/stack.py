"""The stack under test: real services, Redis behind a fault proxy for each, and HAProxy."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, Self

import redis as redis_py

from tools.drills.stack.haproxy import HaProxy
from tools.drills.stack.sentinels import DrillSentinels
from tools.drills.stack.settings import APPROVALS, GATEWAY_SETTINGS, GATEWAYS, READY_SECONDS
from tools.drills.stack.upstream import Upstream
from tools.support.processes.stack import Stack
from tools.support.proxies.faults import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tools.support.processes.redis import RedisServer
    from tools.support.processes.service import ServiceProcess
    from tools.support.proxies.users import UserLink


class DrillStack:
    """Three gateways, two approvals, one Redis or one with sentinels; if relayed, an upstream.

    `links` are the Redis links by replica.
    """

    def __init__(
        self, directory: Path, *, relayed: bool = False, with_sentinels: bool = False
    ) -> None:
        self.upstream: Final = Upstream(directory) if relayed else None
        self.stack: Final = Stack(
            directory, approvals=APPROVALS, gateways=GATEWAYS, gateway_env=GATEWAY_SETTINGS
        )
        self.haproxy: Final = HaProxy(self.stack, directory)
        self.links: Final[dict[str, FaultProxy | UserLink]] = {}
        self._sentinels = (
            DrillSentinels(
                directory,
                gateways=[gateway.name for gateway in self.stack.gateways],
                approvals=[approval.name for approval in self.stack.approvals],
            )
            if with_sentinels
            else None
        )
        self._names: dict[str, str] = {}
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._exits.callback(self.stack.close)
        self._exits.callback(self.haproxy.close)
        try:
            if self.upstream is not None:
                self._exits.callback(self.upstream.close)
                await asyncio.to_thread(self.upstream.start)
            if self._sentinels is None:
                await asyncio.to_thread(self.stack.redis.start)
            else:
                await self._exits.enter_async_context(self._sentinels)
            for service in self.stack.services:
                await self._start_behind_proxy(service)
            await self.ready()
            await asyncio.to_thread(self.haproxy.start)
        except BaseException:
            await self._exits.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    @property
    def redis(self) -> RedisServer:
        """The Redis that serves now."""
        return self.stack.redis if self._sentinels is None else self._sentinels.redis.primary()

    @property
    def sentinels(self) -> DrillSentinels:
        """Redis with its replicas and sentinels."""
        assert self._sentinels is not None, "this drill has no sentinels"
        return self._sentinels

    def service(self, name: str) -> ServiceProcess:
        """Return a replica by name, such as `gateway-1`."""
        return next(service for service in self.stack.services if service.name == name)

    def name_of(self, boot_id: str) -> str:
        """Return the name of the replica with this current or earlier boot id."""
        return self._names.get(boot_id, boot_id)

    async def ready(self) -> None:
        """Wait until all replicas are ready, and record their boot ids."""
        services = self.stack.services
        await asyncio.gather(*(service.until_ready(seconds=READY_SECONDS) for service in services))
        boot_ids = await asyncio.gather(
            *(asyncio.to_thread(getattr, service, "boot_id") for service in services)
        )
        self._names |= {
            boot_id: item.name for boot_id, item in zip(boot_ids, services, strict=True)
        }

    async def restart(self, service: ServiceProcess) -> None:
        """Restart a replica normally and wait until it is ready."""
        service.terminate()
        await service.until_ended()
        service.start()
        await service.until_ready(seconds=READY_SECONDS)

    async def with_admin(self, do: Callable[[Any], object]) -> None:
        """Use a Redis client with full permissions."""

        def doing() -> None:
            with redis_py.Redis.from_url(self.redis.admin_url) as client:
                do(client)

        await asyncio.to_thread(doing)

    async def mend(self) -> None:
        """Undo what an interrupted fault has left."""
        if self._sentinels is None:
            await asyncio.to_thread(self.stack.redis.bring_back)
        else:
            await self._sentinels.bring_back()
        if self.upstream is not None:
            await asyncio.to_thread(self.upstream.bring_back)
        for link in self.links.values():
            link.pass_on()
        for service in self.stack.services:
            service.bring_back()

    async def _start_behind_proxy(self, service: ServiceProcess) -> None:
        is_gateway = service in self.stack.gateways
        relaying = self.upstream.settings_of(service.name) if self.upstream and is_gateway else {}
        if self._sentinels is not None:
            self.links[service.name] = self._sentinels.links[service.name]
            service.start(REDIS_URL=self._sentinels.url_of(service.name), **relaying)
            return
        redis = self.stack.redis
        link = await self._exits.enter_async_context(FaultProxy(redis.port))
        self.links[service.name] = link
        url = redis.gateway_url if is_gateway else redis.approval_url
        service.start(REDIS_URL=url.replace(f":{redis.port}/", f":{link.port}/"), **relaying)
