"""Names of the registry's Redis keys. Pure."""

from __future__ import annotations

from typing import Final

HEAD: Final = "latchkey:head"
CHANGES: Final = "latchkey:changes"
AUDIT: Final = "latchkey:audit"
"""Stream: the audit log; the id of an entry is the number of its change."""
DECISIONS: Final = "latchkey:audit:decisions"
"""Sorted set: audit log entries of people's decisions by number; kept longer than the stream."""
LEFT_OUT: Final = "latchkey:audit:left-out"
"""Sorted set: sources above their hourly limit of audit entries, by when a summary is due."""
PAIRED: Final = "latchkey:paired"
"""Sorted set: paired device ids by approval time."""
PAIRED_COUNT: Final = "latchkey:paired-count"
"""Expected size of PAIRED; a difference shows that the index was lost."""
REINDEX: Final = "latchkey:reindex"
"""Marker: PAIRED is incomplete and has to be rebuilt from the records."""
HISTORY_LOST: Final = "latchkey:history-lost"
"""Marker, with TTL: when (s) history was lost, and which key was inconsistent."""
COMMIT_KEYS: Final = (HEAD, CHANGES, AUDIT, DECISIONS, PAIRED, PAIRED_COUNT, REINDEX)
"""Keys used by every commit, in the order that commit.lua expects."""
PENDING: Final = "latchkey:pending"
"""Sorted set: device ids with a request, by its expiry."""
REFUSED: Final = "latchkey:refused"
"""Sorted set: ids of known devices with refusals, by the time of the last one, ms."""
RESTORE: Final = "latchkey:restore"
"""Which backup was restored, and how far."""
CONFIRMED: Final = "latchkey:confirmed"
"""Always empty; written so that WAIT confirms all earlier writes on the connection."""
ADDRESSES: Final = "latchkey:addresses"
"""Sorted set: addresses that devices were admitted or approved from, by when (ms)."""
LOCKOUTS: Final = "latchkey:lockouts"
"""Sorted set: `<credential class> <address>` of each lock-out, by its end."""


DEVICE_KEYS: Final = "latchkey:device:"
"""Prefix of the keys of all records."""


def device_key(device_id: str) -> str:
    """Return the key of a device's record."""
    return f"{DEVICE_KEYS}{device_id}"


def refused_key(device_id: str) -> str:
    """Return the key of the refusals of a paired or pending device."""
    return f"latchkey:refused:device:{device_id}"


def request_key(request_id: str) -> str:
    """Return the key of a request's note."""
    return f"latchkey:request:{request_id}"


def address_key(limit_key: str) -> str:
    """Return the sorted set of device ids with a request from an address, by creation."""
    return f"latchkey:pending:address:{limit_key}"


def counter_key(source: str, hour: int) -> str:
    """Return the counter of a source's (address's or device's) audit entries in an hour."""
    return f"latchkey:audited:{source}:{hour}"


def guard_key(limit_key: str) -> str:
    """Return the key of an address's failure counts."""
    return f"latchkey:guard:{limit_key}"


def wrong_values_key(limit_key: str) -> str:
    """Return the key of the wrong values sent from an address, as keyed digests."""
    return f"latchkey:wrong:{limit_key}"


def call_key(call_id: str) -> str:
    """Return the key of the answer to a call."""
    return f"latchkey:call:{call_id}"
