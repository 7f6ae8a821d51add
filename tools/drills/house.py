"""The house that is drilled: real services, Redis behind a fault proxy each, HAProxy before all."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, Self

import redis as redis_py

from tools.drills.edge import Edge
from tools.drills.settings import APPROVALS, GATEWAY_SETTINGS, GATEWAYS, READY_SECONDS
from tools.support.fault_proxy import FaultProxy
from tools.support.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tools.support.service import ServiceProcess


class House:
    """Three gateways, two approvals, one Redis. `links` are the ways to Redis, by replica."""

    def __init__(self, directory: Path) -> None:
        self.stack: Final = Stack(
            directory, approvals=APPROVALS, gateways=GATEWAYS, gateway_env=GATEWAY_SETTINGS
        )
        self.edge: Final = Edge(self.stack, directory)
        self.links: Final[dict[str, FaultProxy]] = {}
        self._names: dict[str, str] = {}
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._exits.callback(self.stack.close)
        self._exits.callback(self.edge.close)
        try:
            await asyncio.to_thread(self.stack.redis.start)
            for service in self.stack.services:
                await self._start_behind_proxy(service)
            await self.ready()
            await asyncio.to_thread(self.edge.start)
        except BaseException:
            await self._exits.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    def service(self, name: str) -> ServiceProcess:
        """Return a replica by its name, such as `gateway-1`."""
        return next(one for one in self.stack.services if one.name == name)

    def name_of(self, boot_id: str) -> str:
        """Return which replica a boot id belongs, or belonged, to."""
        return self._names.get(boot_id, boot_id)

    async def ready(self) -> None:
        """Wait until all replicas say that they are ready, and learn their boot ids."""
        services = self.stack.services
        await asyncio.gather(*(one.until_ready(seconds=READY_SECONDS) for one in services))
        boot_ids = await asyncio.gather(
            *(asyncio.to_thread(getattr, one, "boot_id") for one in services)
        )
        self._names |= {boot_id: one.name for boot_id, one in zip(boot_ids, services, strict=True)}

    async def restart(self, service: ServiceProcess) -> None:
        """End a replica in good order, start it again and wait until it is ready."""
        service.terminate()
        await service.until_ended()
        service.start()
        await service.until_ready(seconds=READY_SECONDS)

    async def with_admin(self, do: Callable[[Any], object]) -> None:
        """Do something with a client of Redis that may do everything."""

        def doing() -> None:
            with redis_py.Redis.from_url(self.stack.redis.admin_url) as client:
                do(client)

        await asyncio.to_thread(doing)

    async def mend(self) -> None:
        """Undo what a fault that did not come to its end has left."""
        await asyncio.to_thread(self.stack.redis.bring_back)
        for link in self.links.values():
            link.pass_on()
        for service in self.stack.services:
            service.bring_back()

    async def _start_behind_proxy(self, service: ServiceProcess) -> None:
        redis = self.stack.redis
        link = await self._exits.enter_async_context(FaultProxy(redis.port))
        self.links[service.name] = link
        url = redis.gateway_url if service in self.stack.gateways else redis.approval_url
        service.start(REDIS_URL=url.replace(f":{redis.port}/", f":{link.port}/"))
