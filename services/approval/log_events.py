"""Log events of the approval service. `make docs` lists them in docs/reference/log-events.md."""

from __future__ import annotations

from typing import Final

from shared.observability.logs import LogEvent

STARTED: Final = LogEvent(
    "approval.started",
    "The service listens; with its addresses.",
)
STOPPED: Final = LogEvent(
    "approval.stopped",
    "The service has answered its requests and exits.",
)
SETTING: Final = LogEvent(
    "setting.advice",
    "A setting works, but another value is recommended.",
)
EXHAUSTED: Final = LogEvent(
    "descriptors.exhausted",
    "No file descriptor was left for a new socket, so accepting pauses. Raise `ulimit -n`.",
)
QUESTION: Final = LogEvent(
    "question",
    "One line per authorization: the gateway's connection id, the decision, the request id, and"
    " the change number at which it was decided.",
)
CHANGED: Final = LogEvent(
    "device.changed",
    "A record changed: kind of change, device and change number.",
)
STORE_UNAVAILABLE: Final = LogEvent(
    "store.unavailable",
    "Redis did not answer: requests stay unanswered, and no device is admitted.",
)
HISTORY_BEGUN: Final = LogEvent(
    "history.begun",
    "The head and the logs in Redis disagreed (`key` says which), so a new history began, with"
    " `change` as its first number. All connections are closed with 1012 within the lease and"
    " evaluated again.",
)
KEY_DROPPED: Final = LogEvent(
    "store.key-dropped",
    "A `key` held a type that no release of Latchkey writes; it was deleted and is rebuilt.",
)
INDEX_REBUILT: Final = LogEvent(
    "store.index-rebuilt",
    "The index of paired devices was incomplete and was rebuilt from the records.",
)
UNREADABLE: Final = LogEvent(
    "store.unreadable",
    "The value of `key` in Redis cannot be decoded. Its device gets `UNAVAILABLE`; all others are"
    " served.",
)
KEY_MISMATCH: Final = LogEvent(
    "device.key-mismatch",
    "A device id came with a key other than the one on record and was refused. Investigate.",
)
RULES_UNREADABLE: Final = LogEvent(
    "rules.unreadable",
    "The approval rules in Redis could not be read, so those last read apply as far as they are"
    " unchanged; with the traceback.",
)
CALL: Final = LogEvent(
    "operator.call",
    "An HTTP API call that changes something: operation, operator, status, ids, address and"
    " duration.",
)
CALL_FAILED: Final = LogEvent(
    "operator.call-failed",
    "An HTTP API call failed with an internal error: the response is 500, and the line has the"
    " traceback.",
)
BACKUP_BROKEN_OFF: Final = LogEvent(
    "backup.broken-off",
    "A backup ended early: Redis failed, or the client stopped reading. The command leaves no"
    " file; run it again.",
)
WEBHOOK_LEASE: Final = LogEvent(
    "webhook.delivering",
    "This replica delivers notifications from now on, to so many `targets`.",
)
WEBHOOK_FAILING: Final = LogEvent(
    "webhook.failing",
    "A target does not accept notifications; with its name, host and `error`. They are tried again"
    " after 5 s to 5 minutes, for up to 3 days.",
)
WEBHOOK_RECOVERED: Final = LogEvent(
    "webhook.recovered",
    "A target accepts notifications again.",
)
WEBHOOK_GIVEN_UP: Final = LogEvent(
    "webhook.given-up",
    "A notification was not delivered within 3 days, or the target rejected it with 400, 413 or 422"
    " five times. The next one is tried.",
)
WEBHOOK_DROPPED: Final = LogEvent(
    "webhook.dropped",
    "A target's queue was full (1000), so `dropped` notifications were removed: the oldest about"
    " waiting devices first. The target gets their number once it accepts notifications again.",
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
    KEY_MISMATCH,
    RULES_UNREADABLE,
    CALL,
    CALL_FAILED,
    BACKUP_BROKEN_OFF,
    WEBHOOK_LEASE,
    WEBHOOK_FAILING,
    WEBHOOK_RECOVERED,
    WEBHOOK_GIVEN_UP,
    WEBHOOK_DROPPED,
)
