"""The stack under test: real services, Redis behind a fault proxy for each, and HAProxy."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, Self

import redis as redis_py

from tools.drills.stack.haproxy import HaProxy
from tools.drills.stack.settings import APPROVALS, GATEWAY_SETTINGS, GATEWAYS, READY_SECONDS
from tools.drills.stack.upstream import Upstream
from tools.support.processes.stack import Stack
from tools.support.proxies.faults import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tools.support.processes.service import ServiceProcess


class DrillStack:
    """Three gateways, two approvals, one Redis; if relayed, an upstream.

    `links` are the Redis links by replica.
    """

    def __init__(self, directory: Path, *, relayed: bool = False) -> None:
        self.upstream: Final = Upstream(directory) if relayed else None
        self.stack: Final = Stack(
            directory, approvals=APPROVALS, gateways=GATEWAYS, gateway_env=GATEWAY_SETTINGS
        )
        self.haproxy: Final = HaProxy(self.stack, directory)
        self.links: Final[dict[str, FaultProxy]] = {}
        self._names: dict[str, str] = {}
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._exits.callback(self.stack.close)
        self._exits.callback(self.haproxy.close)
        try:
            if self.upstream is not None:
                self._exits.callback(self.upstream.close)
                await asyncio.to_thread(self.upstream.start)
            await asyncio.to_thread(self.stack.redis.start)
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
            with redis_py.Redis.from_url(self.stack.redis.admin_url) as client:
                do(client)

        await asyncio.to_thread(doing)

    async def mend(self) -> None:
        """Undo what an interrupted fault has left."""
        await asyncio.to_thread(self.stack.redis.bring_back)
        if self.upstream is not None:
            await asyncio.to_thread(self.upstream.bring_back)
        for link in self.links.values():
            link.pass_on()
        for service in self.stack.services:
            service.bring_back()

    async def _start_behind_proxy(self, service: ServiceProcess) -> None:
        redis = self.stack.redis
        link = await self._exits.enter_async_context(FaultProxy(redis.port))
        self.links[service.name] = link
        is_gateway = service in self.stack.gateways
        url = redis.gateway_url if is_gateway else redis.approval_url
        relaying = self.upstream.settings_of(service.name) if self.upstream and is_gateway else {}
        service.start(REDIS_URL=url.replace(f":{redis.port}/", f":{link.port}/"), **relaying)
