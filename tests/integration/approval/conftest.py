"""Fixtures: a replica of approval, and an API client that holds the admin token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.approval.heartbeats.gateway import Gateway
from tests.integration.approval.lockouts.guessing import Counter, Dispatchers
from tests.integration.approval.operator import Operator
from tests.integration.approval.replica import Replica, replica

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.approval.storage.store import Store
    from tests.support.approval.devices import Device
    from tests.support.clock import FakeClock
    from tools.support.processes.redis import RedisServer


@pytest.fixture
async def here(redis_server: RedisServer, clock: FakeClock) -> AsyncIterator[Replica]:
    async with replica(
        redis_server.approval_url, clock, admin_url=redis_server.admin_url
    ) as server:
        yield server


@pytest.fixture
def store(here: Replica) -> Store:
    return here.store


@pytest.fixture
async def there(redis_server: RedisServer, clock: FakeClock) -> AsyncIterator[Replica]:
    async with replica(
        redis_server.approval_url, clock, admin_url=redis_server.admin_url
    ) as server:
        yield server


@pytest.fixture
async def operator(here: Replica) -> AsyncIterator[Operator]:
    async with Operator(here) as item:
        yield item


@pytest.fixture
async def elsewhere(there: Replica) -> AsyncIterator[Operator]:
    """Return an operator at the other replica."""
    async with Operator(there) as operator:
        yield operator


@pytest.fixture
def counter(here: Replica) -> Counter:
    """Return a counter of wrong secrets in the store."""
    return Counter(here)


@pytest.fixture
async def dispatchers(here: Replica, there: Replica) -> Dispatchers:
    """Return the request dispatchers of two live replicas."""
    for each in (here, there):
        await each.store.liveness.write_alive("replica")
    return Dispatchers([here, there])


@pytest.fixture
async def device(here: Replica) -> Device:
    """Return a paired device."""
    return await here.paired()


@pytest.fixture
async def paired(device: Device) -> str:
    """Return the id of a paired device."""
    return device.device_id


@pytest.fixture
def east(here: Replica) -> Gateway:
    """Return a gateway that sends heartbeats."""
    return Gateway(here, "east")


@pytest.fixture
def west(here: Replica) -> Gateway:
    """Return another gateway that sends heartbeats."""
    return Gateway(here, "west")
