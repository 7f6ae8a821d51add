"""Pairs many devices as people do: each requests access and is approved."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import aiohttp

from shared.device.client import DeviceClient
from shared.device.profile import NODE_HOST

PROFILE: Final = replace(NODE_HOST, platform="linux", device_family=None)
"""The devices' description, which must be the same each time."""

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.device.identity import DeviceKey
    from tools.support.processes.stack import Stack


def pair_all(stack: Stack, keys: Sequence[DeviceKey]) -> None:
    """Have every device request access, then approve the requests."""
    asyncio.run(_pair_all(stack, keys))


async def _pair_all(stack: Stack, keys: Sequence[DeviceKey]) -> None:
    headers = {"Authorization": f"Bearer {stack.admin_token}"}
    async with aiohttp.ClientSession(stack.approvals[0].url, headers=headers) as session:
        for at in range(0, len(keys), 16):
            for key in keys[at : at + 16]:
                async with DeviceClient(
                    stack.gateways[0].ws_url, key, PROFILE, token=stack.gateway_token
                ) as device:
                    await device.connect()
            async with session.get("/v1/requests") as answer:
                waiting = (await answer.json())["pending"]
            for request in waiting:
                async with session.post(f"/v1/requests/{request['requestId']}/approve") as answer:
                    answer.raise_for_status()
