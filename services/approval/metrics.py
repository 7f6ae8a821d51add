"""What the approval service counts, declared once with its meaning; one registry an app."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.observability.metrics import unfinished_tasks

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """The approval service's metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.questions = Counter(
            "latchkey_approval_questions",
            "Admission questions, by verdict; `malformed` and `unreadable` ones get no answer.",
            ["verdict"],
            registry=self.registry,
        )
        self.beats = Counter(
            "latchkey_approval_beats",
            "Beats of gateways that were answered.",
            registry=self.registry,
        )
        self.changes = Counter(
            "latchkey_approval_changes",
            "Numbered changes of device records, by kind.",
            ["kind"],
            registry=self.registry,
        )
        self.calls = Counter(
            "latchkey_approval_http_calls",
            "Calls of the HTTP API, by operation and status.",
            ["operation", "status"],
            registry=self.registry,
        )
        self.repairs = Counter(
            "latchkey_approval_repairs",
            "Repairs of what Redis lost or others overwrote: `history` begun anew, `key` dropped, "
            "`index` made anew.",
            ["what"],
            registry=self.registry,
        )
        for what in ("history", "key", "index"):
            self.repairs.labels(what)  # there from the beginning, so that the first one is a rise
        self.questions.labels("unreadable")
        self.call_seconds = Histogram(
            "latchkey_approval_http_seconds",
            "Time that calls of the HTTP API took.",
            ["operation"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.unreadable_proxies = Counter(
            "latchkey_approval_unreadable_proxies",
            "Calls whose trusted proxy named no address: the proxy counts as their client.",
            registry=self.registry,
        )
        self.turned_away = Counter(
            "latchkey_approval_turned_away",
            "Sockets told 503, by limit: of an address, of all; and `idle` ones that made room.",
            ["limit"],
            registry=self.registry,
        )
        self.descriptors_exhausted = Counter(
            "latchkey_approval_descriptors_exhausted",
            "Times that accepting paused for a second because descriptors ran out.",
            registry=self.registry,
        )
        self.methods = Counter(
            "latchkey_approval_methods",
            "Calls of methods that came from sockets, by method and outcome.",
            ["method", "outcome"],
            registry=self.registry,
        )
        self.bus = Counter(
            "latchkey_approval_bus",
            "What happened on the bus, by event: busy, lost answers, dropped messages and why.",
            ["event"],
            registry=self.registry,
        )
        self.head = Gauge(
            "latchkey_approval_change_number",
            "Number of the newest change this replica has seen.",
            registry=self.registry,
        )
        self.listeners = Gauge(
            "latchkey_approval_listeners",
            "Who reads the audit log live at this replica right now.",
            registry=self.registry,
        )
        self.listeners_dropped = Counter(
            "latchkey_approval_listeners_dropped",
            "Listeners that were dropped because they took nothing any more.",
            registry=self.registry,
        )
        self.loop_delay = Gauge(
            "latchkey_approval_loop_delay_seconds",
            "How late the last regular task of the event loop was.",
            registry=self.registry,
        )
        self.tasks = Gauge(
            "latchkey_approval_tasks",
            "Tasks of the event loop that have not ended.",
            registry=self.registry,
        )

    def watch_tasks(self) -> None:
        """Count the tasks of the event loop whenever somebody scrapes."""
        self.tasks.set_function(unfinished_tasks)
