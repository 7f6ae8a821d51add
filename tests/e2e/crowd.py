"""Clients at chosen addresses, as a trusted proxy reports them, alone or as a crowd."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from shared.device.client import DeviceClient
from shared.device.handshake import Admitted, Refused
from shared.device.profile import CLI

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterable

    from shared.device.identity import DeviceKey
    from shared.device.profile import Profile
    from tools.support.processes.stack import Stack


def client_at(
    stack: Stack,
    address: str,
    key: DeviceKey | None = None,
    profile: Profile = CLI,
    *,
    gateway: int = 0,
    token: str = "",
    device_token: str | None = None,
) -> DeviceClient:
    """Return a client at an address, with the right gateway token unless another is given."""
    return DeviceClient(
        stack.gateways[gateway].ws_url,
        key,
        profile,
        token=token or stack.gateway_token,
        device_token=device_token,
        headers={"X-Forwarded-For": address},
    )


async def outcome_of(client: DeviceClient) -> str:
    """Connect once; return `admitted`, or the code of the refusal."""
    async with client:
        outcome = await client.connect()
    if isinstance(outcome, Admitted):
        return "admitted"
    assert isinstance(outcome, Refused), outcome
    return outcome.detail_code or outcome.code


@asynccontextmanager
async def running(endless: Iterable[Coroutine[object, object, None]]) -> AsyncIterator[None]:
    """Run endless coroutines while the body of the `with` block runs."""
    tasks = [asyncio.create_task(one) for one in endless]
    try:
        yield
        for task in tasks:
            assert not task.done(), task.exception()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
