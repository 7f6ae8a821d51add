"""The log events of the gateway, also listed in docs/operations.md."""

from __future__ import annotations

from typing import Final

from shared.observability.logs import LogEvent

STARTED: Final = LogEvent("gateway.started", "The gateway is listening; with its addresses.")
STOPPED: Final = LogEvent("gateway.stopped", "The gateway has closed all connections and exits.")
SETTING: Final = LogEvent("setting.advice", "A setting is valid, but another value is recommended.")
CONNECTION: Final = LogEvent(
    "connection",
    "One line per connection attempt: outcome, client, device, close code and reason.",
)
DISCONNECTED: Final = LogEvent(
    "connection.closed", "The gateway closed an admitted connection; with code and reason."
)
EXHAUSTED: Final = LogEvent(
    "descriptors.exhausted", "No file descriptor was left for a new socket; accepting pauses."
)
CHANGED: Final = LogEvent(
    "device.changed", "A record change closed live connections; with their number."
)
LEASE_LOST: Final = LogEvent(
    "lease.lost",
    "No heartbeat was answered within the lease: all connections are closed with 1013.",
)
RESYNC: Final = LogEvent(
    "history.lost",
    "The store's history differs from the local one: all clients must authenticate again.",
)
DASHBOARD_CHANGED: Final = LogEvent(
    "dashboard.changed",
    "A file of the dashboard changed after startup and is no longer served. Logged once.",
)
UPSTREAM_LOST: Final = LogEvent(
    "upstream.lost", "The upstream cannot be reached; with why. Once an outage."
)
UPSTREAM_BACK: Final = LogEvent(
    "upstream.back", "The upstream can be reached again; with how long it was away."
)
UPSTREAM_REFUSED: Final = LogEvent(
    "upstream.refused",
    "The upstream refused a client that is admitted here; with its error. Check its settings.",
)
UPSTREAM_APPROVED: Final = LogEvent(
    "upstream.approved", "A device was approved at the upstream too, or with why it was not."
)
UPSTREAM_REMOVED: Final = LogEvent(
    "upstream.removed", "A device was removed at the upstream too, or with why it was not."
)
UPSTREAM_PROBLEMS: Final = LogEvent(
    "upstream.problems",
    "The upstream answers and is not set up right; with the causes that `latchkey upstream check` "
    "explains. Once, until something else is wrong.",
)

ALL: Final = (
    STARTED,
    STOPPED,
    SETTING,
    CONNECTION,
    DISCONNECTED,
    EXHAUSTED,
    CHANGED,
    LEASE_LOST,
    RESYNC,
    DASHBOARD_CHANGED,
    UPSTREAM_LOST,
    UPSTREAM_BACK,
    UPSTREAM_REFUSED,
    UPSTREAM_APPROVED,
    UPSTREAM_REMOVED,
    UPSTREAM_PROBLEMS,
)
