"""Metrics of the approval service, each declared once with its meaning; one registry per app."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.observability.metrics import LoopCounter, PlainHttpMetrics, unfinished_tasks

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """The approval service's metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.questions = LoopCounter(
            "latchkey_approval_questions",
            "Authorizations and reported secrets, by decision; `malformed`, `unreadable` and `late`"
            " (after their deadline: approval or Redis is slow) ones get no answer.",
            "verdict",
            registry=self.registry,
        )
        self.heartbeats = Counter(
            "latchkey_approval_beats",
            "Answered heartbeats. All replicas together answer one per gateway and `BEAT_SECONDS`;"
            " if fewer, look at the gateways' `unanswered`.",
            registry=self.registry,
        )
        self.changes = Counter(
            "latchkey_approval_changes",
            "Numbered changes of records, by kind.",
            ["kind"],
            registry=self.registry,
        )
        self.calls = Counter(
            "latchkey_approval_http_calls",
            "HTTP API calls, by operation and status.",
            ["operation", "status"],
            registry=self.registry,
        )
        self.repairs = Counter(
            "latchkey_approval_repairs",
            "Repairs in Redis: a new `history` begun, a `key` deleted, or the `index` rebuilt.",
            ["what"],
            registry=self.registry,
        )
        for what in ("history", "key", "index"):
            self.repairs.labels(what)  # present from the start, so that the first one is a rise
        self.questions.counts["unreadable"] = 0
        self.call_seconds = Histogram(
            "latchkey_approval_http_seconds",
            "Duration of HTTP API calls.",
            ["operation"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.unreadable_proxies = Counter(
            "latchkey_approval_unreadable_proxies",
            "Calls whose trusted proxy sent no valid address, so that the proxy counts as the"
            " client.",
            registry=self.registry,
        )
        self.proxy_sign_ins = Counter(
            "latchkey_approval_proxy_sign_ins",
            "Calls with the header of `OPERATOR_PROXY_USER_HEADER` and no other credential, by"
            " outcome: `accepted`, `untrusted` (ignored: the peer is not in `TRUSTED_PROXIES`),"
            " `unmapped` (no permission), `ambiguous` (a header occurs twice) or `invalid`.",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in ("accepted", "untrusted", "unmapped", "ambiguous", "invalid"):
            self.proxy_sign_ins.labels(outcome)
        self.setup_codes = Counter(
            "latchkey_approval_setup_codes",
            "Attempts to connect with a setup code: `redeemed` (admitted, and the code used up),"
            " `admitted` (for one of its roles), `pairing-required`, `refused` or `locked-out`.",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in ("redeemed", "admitted", "pairing-required", "refused", "locked-out"):
            self.setup_codes.labels(outcome)
        self.webhook_attempts = Counter(
            "latchkey_approval_webhook_attempts",
            "Attempts to deliver a notification, by target and result: `delivered`, `status` (an"
            " error), `redirected`, `timeout`, `name` (not resolved), `private-address`, `tls`,"
            " `connect` or `protocol`.",
            ["target", "result"],
            registry=self.registry,
        )
        self.webhook_queue = Gauge(
            "latchkey_approval_webhook_queue",
            "Notifications that wait for a target (at most 1000). Only the replica that delivers"
            " reports it.",
            ["target"],
            registry=self.registry,
        )
        self.webhook_oldest = Gauge(
            "latchkey_approval_webhook_oldest_seconds",
            "Age of the oldest notification that waits for a target; 0 if none does.",
            ["target"],
            registry=self.registry,
        )
        self.webhook_dropped = Counter(
            "latchkey_approval_webhook_dropped",
            "Notifications that were not delivered, by target and reason: `full` (1000 waited) or"
            " `given-up` (not delivered within 3 days, or rejected by the target).",
            ["target", "reason"],
            registry=self.registry,
        )
        self.turned_away = Counter(
            "latchkey_approval_turned_away",
            "Sockets rejected with 503, by limit: `address` (too many from one) or `all`; or closed"
            " to make room: `idle` (silent) or `displaced` (active, of the address with the most).",
            ["limit"],
            registry=self.registry,
        )
        self.plain_http = PlainHttpMetrics("approval", self.registry)
        self.descriptors_exhausted = Counter(
            "latchkey_approval_descriptors_exhausted",
            "Times that accepting paused for a second because no file descriptor was left.",
            registry=self.registry,
        )
        self.methods = Counter(
            "latchkey_approval_methods",
            "Method calls from sockets, by outcome: `returned`, `failed`, or `unknown` (Redis did"
            " not answer).",
            ["method", "outcome"],
            registry=self.registry,
        )
        self.writes_waiting = Gauge(
            "latchkey_approval_writes_waiting",
            "Writes that wait for a slot (at most 1024 of a kind): pairing requests (`request`),"
            " tokens of admitted devices (`admission`), counts of wrong secrets (`secret`) and"
            " method calls (`call`).",
            ["kind"],
            registry=self.registry,
        )
        self.writes_dropped = Counter(
            "latchkey_approval_writes_dropped",
            "Writes answered busy, by kind and reason: `expected-wait` (at once: it would have"
            " waited over 0.5 s), `waited` (for 0.5 s), or `largest-share` (1024 waited, and its"
            " client had the most).",
            ["kind", "reason"],
            registry=self.registry,
        )
        self.bus = Counter(
            "latchkey_approval_bus",
            "Bus events: busy, lost answers, and dropped messages by reason.",
            ["event"],
            registry=self.registry,
        )
        self.head = Gauge(
            "latchkey_approval_change_number",
            "Number of the newest change that this replica has made.",
            registry=self.registry,
        )
        self.listeners = Gauge(
            "latchkey_approval_listeners",
            "Clients reading `GET /v1/events` at this replica; at 64 the next gets 503.",
            registry=self.registry,
        )
        self.listeners_dropped = Counter(
            "latchkey_approval_listeners_dropped",
            "Listeners dropped because they read nothing for 10 s.",
            registry=self.registry,
        )
        self.loop_delay = Gauge(
            "latchkey_approval_loop_delay_seconds",
            "How late the last periodic task was. Above 0.1 the process is short of CPU.",
            registry=self.registry,
        )
        self.tasks = Gauge(
            "latchkey_approval_tasks",
            "Unfinished tasks of the event loop: one per HTTP connection, a few permanent ones,"
            " and calls in progress.",
            registry=self.registry,
        )

    def watch_tasks(self) -> None:
        """Count the tasks of the event loop at each scrape."""
        self.tasks.set_function(unfinished_tasks)
