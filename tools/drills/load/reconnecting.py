"""Devices that connect repeatedly: paired ones, unapproved ones, and revoked ones."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

from tools.drills.load.device import new_address

if TYPE_CHECKING:
    from tools.drills.load.context import LoadContext
    from tools.drills.load.device import Device

CHURN_SECONDS: Final = 0.4
ATTEMPT_SECONDS: Final = 0.7


async def churn(context_: LoadContext, device: Device) -> None:
    """Connect and disconnect repeatedly until cancelled."""
    while True:
        entered = await device.attempt(context_.url)
        if entered is None:
            await asyncio.sleep(device.pause_seconds())
        else:
            await entered[0].close()
            await asyncio.sleep(random.uniform(0.5, 1.5) * CHURN_SECONDS)


async def connect_unapproved(context_: LoadContext, device: Device) -> None:
    """Try to connect without authorisation until cancelled, recording the outcomes."""
    while True:
        entered = await device.attempt(context_.url)
        if entered is not None:
            await entered[0].close()
        await asyncio.sleep(random.uniform(0.5, 1.5) * ATTEMPT_SECONDS)


async def reconnect_with_old_token(context_: LoadContext, device: Device) -> None:
    """Like `connect_unapproved`, with the old token, alone or beside the gateway token.

    Each attempt uses another address, because lockouts after wrong tokens are per address.
    """
    token = device.token
    while True:
        device.token = token
        device.token_only = not device.token_only
        device.address = new_address()
        entered = await device.attempt(context_.url)
        if entered is not None:
            await entered[0].close()
        await asyncio.sleep(random.uniform(0.5, 1.5) * ATTEMPT_SECONDS)
