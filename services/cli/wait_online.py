"""After an approval: wait, for so long and no longer, until the device is there."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import UNSET

from services.cli.errors import OutcomeUnknown, Unreachable

if TYPE_CHECKING:
    from services.approval.schemas.devices import PairedDevice, WaitingRequest
    from services.cli.client import ApprovalClient

POLL_SECONDS: Final = 0.5
WAIT_SECONDS: Final = 30.0


class Online(msgspec.Struct, rename="camel", frozen=True):
    """The device came back so long after its approval.

    `replica`: the gateway it is at, or null when it has left again.
    """

    replica: str | None
    after_ms: int


async def until_online(
    approval: ApprovalClient, device_id: str, before: PairedDevice | None, seconds: float
) -> Online | None:
    """Return how the device came back; None when it did not in time.

    `before` is the device before its approval: only a later visit counts.
    """
    began = time.monotonic()
    while True:
        try:
            device = await approval.device(device_id)
        except (Unreachable, OutcomeUnknown):
            device = None  # the approval stands; what is not known now may be a moment later
        passed = time.monotonic() - began
        if device is not None and _came_since(device, before):
            replica = device.replicas[-1] if device.connected and device.replicas else None
            return Online(replica, int(passed * 1000))
        if passed >= seconds:
            return None
        await asyncio.sleep(min(POLL_SECONDS, seconds - passed))


async def asks_again(approval: ApprovalClient, device_id: str) -> WaitingRequest | None:
    """Return what the device asks for now, if it asks for something else than was approved."""
    waiting = await approval.pending()
    return next((one for one in waiting if one.device_id == device_id), None)


def _came_since(device: PairedDevice, before: PairedDevice | None) -> bool:
    if device.last_seen_at_ms is UNSET:
        return False
    return before is None or device.last_seen_at_ms != before.last_seen_at_ms
