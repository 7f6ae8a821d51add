"""The lines that the gateway logs (docs/operations.md lists them)."""

from __future__ import annotations

from typing import Final

from shared.observability.logs import LogEvent

STARTED: Final = LogEvent("gateway.started", "The gateway listens; with its addresses.")
STOPPED: Final = LogEvent("gateway.stopped", "The gateway has closed everything and leaves.")
SETTING: Final = LogEvent("setting.advice", "A setting works, but a better value is advised.")
CONNECTION: Final = LogEvent(
    "connection",
    "One line per connection attempt: outcome, client, device, close code and reason.",
)
DISCONNECTED: Final = LogEvent(
    "connection.closed", "The gateway closed an admitted connection; with code and reason."
)
EXHAUSTED: Final = LogEvent(
    "descriptors.exhausted", "No descriptor was left for a new socket; accepting pauses."
)
CHANGED: Final = LogEvent(
    "device.changed", "News of a change that closes live connections; with how many it closed."
)
LEASE_LOST: Final = LogEvent(
    "lease.lost",
    "No beat was answered for the length of the lease: everybody is closed with 1013.",
)
RESYNC: Final = LogEvent(
    "history.lost",
    "The store's history is not the one known here: everybody is closed and judged anew.",
)
DASHBOARD_CHANGED: Final = LogEvent(
    "dashboard.changed",
    "A file of the dashboard is not as it was at start, and no longer served. Once.",
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
)
