"""From what a person typed to the one thing that is meant: ids, and beginnings of ids.

Only ids count: names and labels are text that devices choose.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from services.cli.errors import ApiError, Misused
from services.cli.invocation import typed
from shared.addresses import parse_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.approval.schemas.devices import PairedDevice, WaitingRequest

PREFIX_LEAST_CHARACTERS: Final = 8
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


def request_named(given: str, pending: Sequence[WaitingRequest]) -> WaitingRequest | None:
    """Return the waiting request of this id or beginning of an id; None where none is.

    Raises Misused for what is no id, Refused where several begin so.
    """
    if not _REQUEST_ID.fullmatch(given):
        raise Misused("no-request-id", "that is no request id", _see())
    found = [one for one in pending if is_meant(given, one.request_id)]
    if len(found) > 1:
        raise ApiError("ambiguous", "several requests begin like this", _see())
    return found[0] if found else None


def device_named(given: str, devices: Sequence[PairedDevice]) -> PairedDevice:
    """Return the paired device of this id or beginning of an id; raises Refused."""
    found = [one for one in devices if is_meant(given.lower(), one.device_id)]
    if len(found) > 1:
        raise ApiError("ambiguous", "several devices begin like this", _see())
    if not found:
        raise ApiError("unknown-device", "no paired device has this id", _see())
    return found[0]


def limit_key_typed(address: str) -> str:
    """Return how limits count an address, given that or as an IPv6 network; raises ValueError."""
    parsed = parse_address(address.partition("/")[0])
    if parsed is None:
        message = "not an IP address"
        raise ValueError(message)
    return parsed.limit_key


def role_of(device: PairedDevice, given: str | None) -> str:
    """Return the role whose token is meant: the given one, else the only one; raises Misused."""
    if given:
        return given
    if len(device.roles) == 1:
        return device.roles[0]
    roles = " or ".join(f"--role {role}" for role in device.roles)
    raise Misused("which-role", "the device has several roles", f"Say which: {roles}")


def _see() -> str:
    return f"`{typed('devices list')}` shows what there is."


def is_meant(given: str, full: str) -> bool:
    """Say whether an id, or the beginning of one, names this one."""
    return given == full or (len(given) >= PREFIX_LEAST_CHARACTERS and full.startswith(given))
