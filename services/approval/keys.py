"""The names of what the registry keeps in Redis. Pure."""

from __future__ import annotations

from typing import Final

HEAD: Final = "latchkey:head"
CHANGES: Final = "latchkey:changes"
AUDIT: Final = "latchkey:audit"
PAIRED: Final = "latchkey:paired"
"""Sorted set: paired device ids by the time of their approval."""
PENDING: Final = "latchkey:pending"
"""Sorted set: device ids with a request, by the time it expires."""
REFUSED: Final = "latchkey:refused"
"""Sorted set: ids of known devices of which something was refused, by when that was last, ms."""
RESTORE: Final = "latchkey:restore"
"""Which backup was restored, and how much of it."""
CONFIRMED: Final = "latchkey:confirmed"
"""Always empty: written so that a Redis replica can confirm all that was written before it."""
LOCKOUTS: Final = "latchkey:lockouts"
"""Sorted set: `<credential class> <address>` of each lock-out, by the time it ends."""


def device_key(device_id: str) -> str:
    """Name the key of a device's record."""
    return f"latchkey:device:{device_id}"


def refused_key(device_id: str) -> str:
    """Name the key of what was refused of a device that is paired or waits."""
    return f"latchkey:refused:device:{device_id}"


def request_key(request_id: str) -> str:
    """Name the key of the note on a request id."""
    return f"latchkey:request:{request_id}"


def address_key(limit_key: str) -> str:
    """Name the sorted set of device ids with a request from one address, by creation."""
    return f"latchkey:pending:address:{limit_key}"


def guard_key(limit_key: str) -> str:
    """Name the key of what is held against one address after wrong secrets."""
    return f"latchkey:guard:{limit_key}"


def wrong_values_key(limit_key: str) -> str:
    """Name the key of the wrong values that came from one address, as keyed digests."""
    return f"latchkey:wrong:{limit_key}"


def call_key(call_id: str) -> str:
    """Name the key of the answer to a call."""
    return f"latchkey:call:{call_id}"
