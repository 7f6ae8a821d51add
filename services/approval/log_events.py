"""The lines that the approval service logs (docs/operations.md lists them)."""

from __future__ import annotations

from typing import Final

from shared.observability.logs import LogEvent

STARTED: Final = LogEvent("approval.started", "The service listens; with its addresses.")
STOPPED: Final = LogEvent("approval.stopped", "The service has answered what it had and leaves.")
SETTING: Final = LogEvent("setting.advice", "A setting works, but a better value is advised.")
EXHAUSTED: Final = LogEvent(
    "descriptors.exhausted", "No descriptor was left for a new socket; accepting pauses."
)
QUESTION: Final = LogEvent(
    "question",
    "One line per admission question: the gateway's connection id, the verdict, the request id.",
)
CHANGED: Final = LogEvent("device.changed", "A record changed: what, by whom, under which number.")
STORE_UNAVAILABLE: Final = LogEvent(
    "store.unavailable", "Redis did not answer: questions stay unanswered, nobody is let in."
)
HISTORY_BEGUN: Final = LogEvent(
    "history.begun",
    "The newest change and the logs in Redis disagreed: a new history began, and every connection "
    "is judged anew. `key` is the one that disagreed.",
)
KEY_DROPPED: Final = LogEvent(
    "store.key-dropped",
    "A key of ours held a value of another type, which no release of Latchkey writes: it was "
    "dropped, and is made anew.",
)
INDEX_REBUILT: Final = LogEvent(
    "store.index-rebuilt", "The index of paired devices was lost and is made anew from the records."
)
UNREADABLE: Final = LogEvent(
    "store.unreadable",
    "A value in Redis cannot be decoded: `key` says which. Only what rests on it is not served.",
)
DEMOTED: Final = LogEvent(
    "redis.demoted",
    "Redis says that it is no master: all connections to it are given up and made anew.",
)
KEY_MISMATCH: Final = LogEvent(
    "device.key-mismatch",
    "A device id came with another public key than the one on record: refused. Look into it.",
)
CALL: Final = LogEvent(
    "operator.call",
    "A call of the HTTP API that changes something: operation, status, ids, address, how long.",
)
CALL_FAILED: Final = LogEvent(
    "operator.call-failed", "A call of the HTTP API met an error nobody foresaw: a bug."
)
BACKUP_BROKEN_OFF: Final = LogEvent(
    "backup.broken-off", "A backup was broken off before its end: Redis failed, or nobody took it."
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
