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
HOLDERS: Final = "latchkey:pending:holders"
"""Sorted set: IPv4 addresses and IPv6 /48s, by their number of requests."""
REFUSED: Final = "latchkey:refused"
"""Sorted set: ids of known devices with refusals, by the time of the last one, ms."""
RESTORE: Final = "latchkey:restore"
"""Which backup was restored, and how far."""
CONFIRMED: Final = "latchkey:confirmed"
"""Always empty; written so that WAIT confirms all earlier writes on the connection."""
ADDRESSES: Final = "latchkey:addresses"
"""Sorted set: addresses that devices were admitted or approved from, by when (ms)."""
OPERATORS: Final = "latchkey:operators"
"""All named operators: a version, then permission, token's hash and times by name."""
RULES: Final = "latchkey:rules"
"""All approval rules: a version, then the rules by name."""
SETUP_LIVE: Final = "latchkey:setup:live"
"""Sorted set: ids of live setup codes, by their expiry."""
LOCKOUTS: Final = "latchkey:lockouts"
"""Sorted set: `<credential class> <address>` of each lock-out, by its end."""

WEBHOOK_LEASE: Final = "latchkey:webhooks:lease"
"""With TTL: which approval replica delivers notifications, and its fencing number."""
WEBHOOK_STATE: Final = "latchkey:webhooks:state"
"""Hash, with TTL: how far changes and lock-outs were queued, and the last numbers given out."""

DEVICE_KEYS: Final = "latchkey:device:"
"""Prefix of the keys of all records."""

# Each of the following is a function that returns a key. They are the format methods of their
# templates, because a decision names a dozen keys.
device_key: Final = (DEVICE_KEYS + "{}").format
"""Return the key of a device's record, by device id."""
refused_key: Final = "latchkey:refused:device:{}".format
"""Return the key of the refusals of a paired or pending device, by device id."""
request_key: Final = "latchkey:request:{}".format
"""Return the key of a request's note, by request id."""
address_key: Final = "latchkey:pending:address:{}".format
"""Return the sorted set of device ids with a request from an address, by creation.

Paired devices come last: see `transaction.PAIRED_LATER_MS`.
"""
within_key: Final = "latchkey:pending:within:{}".format
"""Return the sorted set of the /56s of an IPv6 /48, or the /64s of a /56, by number of requests."""
counter_key: Final = "latchkey:audited:{}:{}".format
"""Return the counter of a source's (address's or device's) audit entries in an hour."""
guard_key: Final = "latchkey:guard:{}".format
"""Return the key of an address's failure counts, by limit key."""
wrong_values_key: Final = "latchkey:wrong:{}".format
"""Return the key of the wrong values sent from an address, as keyed digests, by limit key."""
call_key: Final = "latchkey:call:{}".format
"""Return the key of the answer to a call, by call id."""
operator_used_key: Final = "latchkey:operator:used:{}".format
"""Return the key of when an operator was last active, by the operator's id."""
rule_uses_key: Final = "latchkey:rule:uses:{}".format
"""Return the sorted set of request ids that a rule approved, by when (ms); by the rule's id."""
turned_away_key: Final = "latchkey:turned-away:{}".format
"""Return the marker of a device that a person removed, rejected or revoked, by device id."""
setup_code_key: Final = "latchkey:setup:code:{}".format
"""Return the key of a setup code, by setup id."""
setup_live_of_key: Final = "latchkey:setup:live:{}".format
"""Return the sorted set of a creator's live setup codes, by their expiry."""
seen_key: Final = "latchkey:seen:{}".format
"""Return the key of a paired device's last admission, deleted with its record; by device id."""
webhook_queue_key: Final = "latchkey:webhooks:queue:{}".format
"""Return the sorted set of notifications for a target, oldest first; by the target's key."""
webhook_target_key: Final = "latchkey:webhooks:target:{}".format
"""Return the hash with attempts and counts of a target, with TTL; by the target's key."""

PENDING_NAMES: Final = {
    "list": PENDING,
    "holders": HOLDERS,
    "reindex": REINDEX,
    "address": address_key(""),
    "within": within_key(""),
    "device": device_key(""),
    "seen": seen_key(""),
    "refused": refused_key(""),
    "request": request_key(""),
}
"""Keys, and prefixes of keys, that commit.lua finds by itself: those of requests that give way."""
