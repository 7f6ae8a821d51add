"""Resolve what an operator typed, an id or an id prefix, to one object.

Names are not accepted, because devices choose them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from services.cli.errors import ApiError, Misused
from services.cli.invocation import typed
from shared.addresses.client import parse_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.approval.schemas.devices import PairedDevice, WaitingRequest

MIN_PREFIX_CHARACTERS: Final = 8
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


def request_named(given: str, pending: Sequence[WaitingRequest]) -> WaitingRequest | None:
    """Return the pending request with this id or id prefix, or None.

    Raises Misused if it is not an id, ApiError if the prefix is ambiguous.
    """
    if not _REQUEST_ID.fullmatch(given):
        raise Misused("no-request-id", "that is not a request id", _list_hint())
    found = [request for request in pending if matches_id(given, request.request_id)]
    if len(found) > 1:
        raise ApiError("ambiguous", "several request ids start with this", _list_hint())
    return found[0] if found else None


def device_named(given: str, devices: Sequence[PairedDevice]) -> PairedDevice:
    """Return the paired device with this id or id prefix; raises ApiError."""
    found = [device for device in devices if matches_id(given.lower(), device.device_id)]
    if len(found) > 1:
        raise ApiError("ambiguous", "several device ids start with this", _list_hint())
    if not found:
        raise ApiError("unknown-device", "no paired device has this id", _list_hint())
    return found[0]


def limit_key_typed(address: str) -> str:
    """Return the limit key of an address or IPv6 network; raises ValueError."""
    parsed = parse_address(address.partition("/")[0])
    if parsed is None:
        message = "not an IP address"
        raise ValueError(message)
    return parsed.limit_key


def role_of(device: PairedDevice, given: str | None) -> str:
    """Return the given role, else the device's only role; raises Misused."""
    if given:
        return given
    if len(device.roles) == 1:
        return device.roles[0]
    roles = " or ".join(f"--role {role}" for role in device.roles)
    raise Misused("which-role", "the device has several roles", f"Choose one: {roles}")


def _list_hint() -> str:
    return f"`{typed('devices list')}` lists requests and devices."


def matches_id(given: str, full: str) -> bool:
    """Return whether `given` is this id or a long enough prefix of it."""
    return given == full or (len(given) >= MIN_PREFIX_CHARACTERS and full.startswith(given))
