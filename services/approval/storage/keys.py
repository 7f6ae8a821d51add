"""The names of what the registry keeps in Redis. Pure."""

from __future__ import annotations

from typing import Final

HEAD: Final = "latchkey:head"
CHANGES: Final = "latchkey:changes"
AUDIT: Final = "latchkey:audit"
"""Stream: who did what; an entry's id is the number of its change."""
DECISIONS: Final = "latchkey:audit:decisions"
"""Sorted set: the entries of the audit log for what people decided, by number, kept longer."""
LEFT_OUT: Final = "latchkey:audit:left-out"
"""Sorted set: sources that did more than gets entries of its own, by when that is summarised."""
PAIRED: Final = "latchkey:paired"
"""Sorted set: paired device ids by the time of their approval."""
PAIRED_COUNT: Final = "latchkey:paired-count"
"""How many members PAIRED has: it was lost where the two disagree."""
REINDEX: Final = "latchkey:reindex"
"""Mark: PAIRED is incomplete, and is to be made anew from the records."""
HISTORY_LOST: Final = "latchkey:history-lost"
"""Mark: when (s) history was lost, and which key disagreed; it expires."""
COMMIT_KEYS: Final = (HEAD, CHANGES, AUDIT, DECISIONS, PAIRED, PAIRED_COUNT, REINDEX)
"""The keys that each commit looks at, in the order in which commit.lua knows them."""
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


DEVICE_KEYS: Final = "latchkey:device:"
"""How the keys of all records begin."""


def device_key(device_id: str) -> str:
    """Name the key of a device's record."""
    return f"{DEVICE_KEYS}{device_id}"


def refused_key(device_id: str) -> str:
    """Name the key of what was refused of a device that is paired or waits."""
    return f"latchkey:refused:device:{device_id}"


def request_key(request_id: str) -> str:
    """Name the key of the note on a request id."""
    return f"latchkey:request:{request_id}"


def address_key(limit_key: str) -> str:
    """Name the sorted set of device ids with a request from one address, by creation."""
    return f"latchkey:pending:address:{limit_key}"


def counter_key(source: str, hour: int) -> str:
    """Name the counter of what one source did in an hour: an address or a device."""
    return f"latchkey:audited:{source}:{hour}"


def guard_key(limit_key: str) -> str:
    """Name the key of what is held against one address after wrong secrets."""
    return f"latchkey:guard:{limit_key}"


def wrong_values_key(limit_key: str) -> str:
    """Name the key of the wrong values that came from one address, as keyed digests."""
    return f"latchkey:wrong:{limit_key}"


def call_key(call_id: str) -> str:
    """Name the key of the answer to a call."""
    return f"latchkey:call:{call_id}"
