"""The classes of callers, each with the rights a test gives it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.approval.domain.authorization import Caller

if TYPE_CHECKING:
    from tests.support.approval.devices import Device

PAIRING = "operator.pairing"


def shared_secret(*scopes: str) -> Caller:
    """Return a socket admitted with the gateway token; it may use the device methods."""
    return Caller("shared-secret", "somebody", (PAIRING, *scopes))


def device_token(device: Device, *scopes: str) -> Caller:
    """Return a socket admitted with its device token; it may use the device methods."""
    return Caller("device-token", "a device", (PAIRING, *scopes), device.device_id)
