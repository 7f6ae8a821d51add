"""Those who come and go: paired devices, strangers, and devices whose right was taken back."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

from tools.drills.device import new_address

if TYPE_CHECKING:
    from tools.drills.device import Device
    from tools.drills.street import Street

CHURN_SECONDS: Final = 0.4
KNOCK_SECONDS: Final = 0.7


async def churn(street: Street, device: Device) -> None:
    """Connect, be let in, leave, again and again, until cancelled."""
    while True:
        entered = await device.attempt(street.url)
        if entered is None:
            await asyncio.sleep(device.pause_seconds())
        else:
            await entered[0].close()
            await asyncio.sleep(random.uniform(0.5, 1.5) * CHURN_SECONDS)


async def knock(street: Street, device: Device) -> None:
    """Try to get in without a right to, until cancelled; what comes of it is written down."""
    while True:
        entered = await device.attempt(street.url)
        if entered is not None:
            await entered[0].close()
        await asyncio.sleep(random.uniform(0.5, 1.5) * KNOCK_SECONDS)


async def come_back_with_old_token(street: Street, device: Device) -> None:
    """As `knock`, with the token of before, alone or beside the gateway token.

    Each time from elsewhere: lock-outs after wrong tokens go by address.
    """
    token = device.token
    while True:
        device.token = token
        device.token_only = not device.token_only
        device.address = new_address()
        entered = await device.attempt(street.url)
        if entered is not None:
            await entered[0].close()
        await asyncio.sleep(random.uniform(0.5, 1.5) * KNOCK_SECONDS)
