"""Log events of the approval service (listed in docs/operations.md)."""

from __future__ import annotations

from typing import Final

from shared.observability.logs import LogEvent

STARTED: Final = LogEvent("approval.started", "The service listens on these addresses.")
STOPPED: Final = LogEvent("approval.stopped", "The service has answered its requests and exits.")
SETTING: Final = LogEvent("setting.advice", "A setting works, but another value is recommended.")
EXHAUSTED: Final = LogEvent(
    "descriptors.exhausted", "No file descriptor was left for a new socket; accepting pauses."
)
QUESTION: Final = LogEvent(
    "question",
    "One line per authorization: the gateway's connection id, the decision, the request id.",
)
CHANGED: Final = LogEvent("device.changed", "A record changed: kind, device, number of the change.")
STORE_UNAVAILABLE: Final = LogEvent(
    "store.unavailable", "Redis did not answer: requests stay unanswered, no device is admitted."
)
HISTORY_BEGUN: Final = LogEvent(
    "history.begun",
    "Head and logs in Redis were inconsistent (at `key`): a new history was started, and every "
    "connection is re-evaluated.",
)
KEY_DROPPED: Final = LogEvent(
    "store.key-dropped",
    "A key held a value of a wrong type, which no release of Latchkey writes: it was deleted and "
    "will be recreated.",
)
INDEX_REBUILT: Final = LogEvent(
    "store.index-rebuilt", "The index of paired devices was lost and rebuilt from the records."
)
UNREADABLE: Final = LogEvent(
    "store.unreadable",
    "The value of `key` in Redis cannot be decoded. Only what depends on it is not served.",
)
DEMOTED: Final = LogEvent(
    "redis.demoted",
    "Redis reports that it is not a master: all connections to it are closed and reopened.",
)
KEY_MISMATCH: Final = LogEvent(
    "device.key-mismatch",
    "A device id came with a public key other than the one on record and was refused. Investigate.",
)
CALL: Final = LogEvent(
    "operator.call",
    "An HTTP API call that changes something: operation, status, ids, address, duration.",
)
CALL_FAILED: Final = LogEvent(
    "operator.call-failed", "An HTTP API call failed with an unexpected error: a bug."
)
BACKUP_BROKEN_OFF: Final = LogEvent(
    "backup.broken-off", "A backup was aborted: Redis failed, or the client stopped reading."
)

ALL: Final = (
    STARTED,
    STOPPED,
    SETTING,
    EXHAUSTED,
    QUESTION,
    CHANGED,
    STORE_UNAVAILABLE,
    HISTORY_BEGUN,
    KEY_DROPPED,
    INDEX_REBUILT,
    UNREADABLE,
    DEMOTED,
    KEY_MISMATCH,
    CALL,
    CALL_FAILED,
    BACKUP_BROKEN_OFF,
)
