"""Facts from a command's output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tools.interop.facts import Facts, Unexpected

if TYPE_CHECKING:
    from tools.interop.cli.program import Ran

_COMPARED: Final = ("deviceId", "publicKey", "operatorLabel", "role", "roles", "scopes")


def done(ran: Ran) -> dict[str, Any]:
    """Return a command's output. Raises Unexpected if it failed."""
    if ran.status != 0:
        raise Unexpected(f"exit {ran.status}, {ran.reason()}")
    return ran.json


def failed(ran: Ran) -> Facts:
    """Return the exit status and the reason."""
    return f"exit {ran.status}", ran.reason()


def left(devices: list[dict[str, Any]]) -> str:
    """Return what is paired after everything was cleared: at most a new local command line."""
    names = [f"{device['clientId']} {device['approvedVia']}" for device in devices]
    return f"left: {', '.join(names)}" if names else "nothing paired"


def compared(devices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the properties of devices that are compared."""
    return [{name: device.get(name) for name in _COMPARED} for device in devices]
