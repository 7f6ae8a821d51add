"""The gateway's event loop, and a gateway in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import uvloop

from tests.integration.gateway.harness import GatewayHarness

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Mapping


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every test in this folder on the gateway's event loop type."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def harness() -> AsyncIterator[GatewayHarness]:
    """Return a gateway with the default settings."""
    async with GatewayHarness() as harness:
        yield harness
