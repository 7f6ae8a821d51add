"""Wait for a device to connect after its approval."""

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


RETURN_SECONDS: Final = 5.0
"""How long a device that left may take to return: behind OpenClaw, its first session is closed."""


class Online(msgspec.Struct, rename="camel", frozen=True):
    """A device that connected, and how long after its approval.

    `replica` is the gateway it is connected to, or null if it has disconnected again.
    """

    replica: str | None
    after_ms: int


async def until_online(
    approval: ApprovalClient, device_id: str, before: PairedDevice | None, seconds: float
) -> Online | None:
    """Wait for a device to connect; return None after `seconds`.

    `before` is the device before its approval: only a later session counts.
    """
    began = time.monotonic()
    left_at: float | None = None
    while True:
        try:
            device = await approval.device(device_id)
        except (Unreachable, OutcomeUnknown):
            device = None  # the approval is done; try again
        passed = time.monotonic() - began
        if device is not None and _came_since(device, before):
            if device.connected and device.replicas:
                return Online(device.replicas[-1], int(passed * 1000))
            left_at = passed if left_at is None else left_at
            if passed - left_at >= RETURN_SECONDS:
                return Online(None, int(left_at * 1000))
        if passed >= seconds:
            return None if left_at is None else Online(None, int(left_at * 1000))
        await asyncio.sleep(min(POLL_SECONDS, seconds - passed))


async def asks_again(approval: ApprovalClient, device_id: str) -> WaitingRequest | None:
    """Return the device's new request, if it requests more than was approved."""
    waiting = await approval.pending()
    return next((request for request in waiting if request.device_id == device_id), None)


def _came_since(device: PairedDevice, before: PairedDevice | None) -> bool:
    if device.last_seen_at_ms is UNSET:
        return False
    return before is None or device.last_seen_at_ms != before.last_seen_at_ms
