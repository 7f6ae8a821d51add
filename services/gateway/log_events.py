"""The log events of the gateway. `make docs` lists them in docs/reference/log-events.md."""

from __future__ import annotations

from typing import Final

from shared.observability.logs import LogEvent

STARTED: Final = LogEvent(
    "gateway.started",
    "The gateway listens; with its addresses.",
)
STOPPED: Final = LogEvent(
    "gateway.stopped",
    "The gateway has closed all connections and exits.",
)
SETTING: Final = LogEvent(
    "setting.advice",
    "A setting works, but another value is recommended.",
)
CONNECTION: Final = LogEvent(
    "connection",
    "One line per connection attempt: `outcome`, client, device, and `code` and `reason` of the"
    " close. A refused device has `request_id` and `approve_at`; an undecided one has the"
    " `dependency` that failed. `held_ms` is how long it was held (`GATEWAY_WAIT_SECONDS`), which"
    " `ms` does not include.",
)
DISCONNECTED: Final = LogEvent(
    "connection.closed",
    "The gateway closed an admitted connection; with code and reason.",
)
EXHAUSTED: Final = LogEvent(
    "descriptors.exhausted",
    "No file descriptor was left for a new socket, so accepting pauses. Raise `ulimit -n` or lower"
    " `GATEWAY_CONNECTION_LIMIT`.",
)
CHANGED: Final = LogEvent(
    "device.changed",
    "A change closed live connections; with their number.",
)
LEASE_LOST: Final = LogEvent(
    "lease.lost",
    "No heartbeat was answered within the lease, so all connections were closed with 1013; with"
    " their number. `/readyz` says what is missing: Redis or approval. Clients reconnect by"
    " themselves.",
)
RESYNC: Final = LogEvent(
    "history.lost",
    "The store's history is not the one that this gateway knew: Redis was emptied, restored from a"
    " copy, or a failover lost changes. All connections are closed with 1012 and evaluated again."
    " Investigate at once, because a revocation may be lost: compare `GET /v1/devices` with what"
    " you expect.",
)
DASHBOARD_CHANGED: Final = LogEvent(
    "dashboard.changed",
    "A file of the dashboard changed after start and is no longer served; restart the gateway."
    " Logged once; other files may be affected.",
)
UPSTREAM_LOST: Final = LogEvent(
    "upstream.lost",
    "OpenClaw, the upstream, cannot be reached; with the reason. Once per outage.",
)
UPSTREAM_BACK: Final = LogEvent(
    "upstream.back",
    "The upstream can be reached again; with the length of the outage.",
)
UPSTREAM_CLOCK_DIFFERS: Final = LogEvent(
    "upstream.clock_differs",
    "The upstream's clock differs so much that no signature is valid by both clocks, and devices"
    " cannot be connected to it; with the difference in seconds. Once, until the clocks agree.",
)
UPSTREAM_CLOCK_AGREES: Final = LogEvent(
    "upstream.clock_agrees",
    "The upstream's clock agrees again.",
)
UPSTREAM_REFUSED: Final = LogEvent(
    "upstream.refused",
    "The upstream refused a client that is admitted here; with its error. Check the upstream's"
    " settings.",
)
UPSTREAM_APPROVED: Final = LogEvent(
    "upstream.approved",
    "A device was approved at the upstream too, or could not be; with the reason.",
)
UPSTREAM_GRANTS_LESS: Final = LogEvent(
    "upstream.grants_less",
    "The upstream grants a device fewer scopes than it was approved for here, and has no request"
    " that could be approved. The device is connected with what the upstream grants.",
)
UPSTREAM_REMOVED: Final = LogEvent(
    "upstream.removed",
    "A device was removed at the upstream too, or could not be; with the reason.",
)
UPSTREAM_PROBLEMS: Final = LogEvent(
    "upstream.problems",
    "The upstream answers but is configured wrongly; with the causes that `latchkey upstream"
    " check` explains. Logged again when they change.",
)
SETUP_UNREPORTED: Final = LogEvent(
    "setup.unreported",
    "A device was admitted by a setup code (`setup_id`), but approval could not be told whether it"
    " got hello-ok. The outcome of the code stays uncertain.",
)

ALL: Final = (
    STARTED,
    STOPPED,
    SETTING,
    CONNECTION,
    SETUP_UNREPORTED,
    DISCONNECTED,
    EXHAUSTED,
    CHANGED,
    LEASE_LOST,
    RESYNC,
    DASHBOARD_CHANGED,
    UPSTREAM_LOST,
    UPSTREAM_BACK,
    UPSTREAM_CLOCK_DIFFERS,
    UPSTREAM_CLOCK_AGREES,
    UPSTREAM_REFUSED,
    UPSTREAM_APPROVED,
    UPSTREAM_GRANTS_LESS,
    UPSTREAM_REMOVED,
    UPSTREAM_PROBLEMS,
)
