"""The metrics of the gateway; each instance has its own registry."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.observability.metrics import (
    LoopCounter,
    PlainHttpMetrics,
    ReadCounter,
    unfinished_tasks,
)
from shared.server.loop_budget import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from services.gateway.connections.held import HeldConnections
    from services.gateway.websocket.memory import MemoryBudget
    from shared.rpc.question_window import QuestionWindow
    from shared.server.loop_budget import LoopBudget

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)


class Metrics:
    """The gateway's metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.handshakes = LoopCounter(
            "latchkey_gateway_handshakes",
            "Ended handshakes, by outcome: `admitted`, the reason of the refusal, or `gone`.",
            "outcome",
            self.registry,
        )
        self.handshake_seconds = Histogram(
            "latchkey_gateway_handshake_seconds",
            "Time from the challenge to the outcome.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.turned_away = Counter(
            "latchkey_gateway_turned_away",
            "Sockets rejected with 503, by limit: `address` (too many without a device from one),"
            " `address-connections` (`GATEWAY_CONNECTION_LIMIT_PER_ADDRESS`) or `all`; or"
            " closed to make room: `idle` (silent) or `displaced` (active, of the address with the"
            " most). Because more clients connect than can be admitted in time: `accept` (503 with"
            " `Retry-After`, before any work), `upgrade` (likewise, once accepted), or `handshake`"
            " (`UNAVAILABLE`, after waiting).",
            ["limit"],
            registry=self.registry,
        )
        self.filtered = ReadCounter(
            "latchkey_gateway_filtered_seconds",
            "Seconds during which the kernel let only a share of new connections through, because"
            " more clients connected than can be admitted in time. The others' TCP tries again.",
            [],
            self.registry,
        )
        self.displaced = ReadCounter(
            "latchkey_gateway_displaced",
            "WebSockets closed with 1013 to make room, by limit. Clients without a device:"
            " `address` (`GATEWAY_PREAUTH_LIMIT_PER_ADDRESS`), `address-connections`"
            " (`GATEWAY_CONNECTION_LIMIT_PER_ADDRESS`) or `all`. The oldest of a device: `device`"
            " (`GATEWAY_CONNECTION_LIMIT_PER_DEVICE`).",
            ["limit"],
            self.registry,
        )
        self.unreadable_proxies = Counter(
            "latchkey_gateway_unreadable_proxies",
            "Upgrades whose trusted proxy sent no valid address, so that the proxy counts as the"
            " client.",
            registry=self.registry,
        )
        self.calls = Counter(
            "latchkey_gateway_calls",
            "Method calls that approval answers, by outcome: `returned`, `failed`, or"
            " `unavailable` (no answer in time: look at the heartbeats and at approval).",
            ["method", "outcome"],
            registry=self.registry,
        )
        self.closed_by_change = Counter(
            "latchkey_gateway_closed_by_change",
            "Live connections closed by a removal, rotation or revocation.",
            registry=self.registry,
        )
        self.lease_left = Gauge(
            "latchkey_gateway_lease_left_seconds",
            "How long this replica may serve without another answered heartbeat; normally a little"
            " under `LEASE_SECONDS`. Under half of it, Redis or approval does not answer: look at"
            " `/readyz`.",
            registry=self.registry,
        )
        self.changes_behind = Gauge(
            "latchkey_gateway_changes_behind",
            "Changes known but not applied yet; 0 except for moments. If it stays above 0,"
            " heartbeats are not answered.",
            registry=self.registry,
        )
        self.heartbeats = Counter(
            "latchkey_gateway_beats",
            "Heartbeats, by outcome: `answered`, `unanswered` (approval or Redis is slow or down),"
            " `malformed` (incompatible releases), or `resync` (once at start; later ones come"
            " with `history.lost`).",
            ["outcome"],
            registry=self.registry,
        )
        self.beat_seconds = Histogram(
            "latchkey_gateway_beat_seconds",
            "Time from a heartbeat to its answer. Near 0.5 and above, approval or Redis is"
            " overloaded.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.plain_http = PlainHttpMetrics("gateway", self.registry)
        self.descriptors_exhausted = Counter(
            "latchkey_gateway_descriptors_exhausted",
            "Times that accepting paused for a second because no file descriptor was left.",
            registry=self.registry,
        )
        self.bus = Counter(
            "latchkey_gateway_bus",
            "Bus events: retries, timeouts, and dropped messages by reason.",
            ["event"],
            registry=self.registry,
        )
        self.upstream_refusals = Counter(
            "latchkey_gateway_upstream_refusals",
            "Clients that were admitted here and refused by the upstream, by its error code. The"
            " log event `upstream.refused` has the details.",
            ["code"],
            registry=self.registry,
        )
        self.upstream_clients = Gauge(
            "latchkey_gateway_upstream_clients",
            "Clients connected to the upstream.",
            registry=self.registry,
        )
        self.upstream_openings = Gauge(
            "latchkey_gateway_upstream_openings",
            "Upstream sockets whose clients are not admitted yet: `opening` (8 at most) or"
            " `waiting` (queued, for 2 s at most).",
            ["state"],
            registry=self.registry,
        )
        self.upstream_up = Gauge(
            "latchkey_gateway_upstream_up",
            "1 while the upstream answers, else 0; NaN without `UPSTREAM_URL`.",
            registry=self.registry,
        )
        self.upstream_up.set(math.nan)
        self.upstream_problems = Gauge(
            "latchkey_gateway_upstream_problems",
            "Mistakes found in the upstream's configuration; `latchkey upstream check` names them.",
            registry=self.registry,
        )
        self.upstream_seconds = Histogram(
            "latchkey_gateway_upstream_seconds",
            "Time from passing on an admitted client's `connect` to the upstream's hello-ok.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.upstream_frames = ReadCounter(
            "latchkey_gateway_upstream_frames",
            "Frames relayed after hello-ok, by direction: `up` (from clients) or `down`.",
            ["direction"],
            self.registry,
        )
        self.upstream_bytes = ReadCounter(
            "latchkey_gateway_upstream_bytes",
            "Payload bytes relayed after hello-ok, by direction: `up` (from clients) or `down`.",
            ["direction"],
            self.registry,
        )
        self.upstream_approvals = ReadCounter(
            "latchkey_gateway_upstream_approvals",
            "Approvals at the upstream of devices admitted here, by outcome: `approved` or `failed`"
            " (the client retries, and the approval with it).",
            ["outcome"],
            self.registry,
        )
        self.upstream_outages = ReadCounter(
            "latchkey_gateway_upstream_outages",
            "How often the upstream stopped answering.",
            [],
            self.registry,
        )
        self.upstream_pipes = Gauge(
            "latchkey_gateway_upstream_pipes",
            "WebSockets that are passed to the upstream unchanged, such as the desktop view.",
            registry=self.registry,
        )
        self.upstream_requests = Counter(
            "latchkey_gateway_upstream_requests",
            "HTTP requests for the upstream, by outcome: `passed`, `no-upstream` (answered with a"
            " page that says so), `too-many` (no connection became free), `locked-out`, or"
            " `undecided` (approval did not answer).",
            ["outcome"],
            registry=self.registry,
        )
        self.connections = Gauge(
            "latchkey_gateway_connections",
            "Open connections: `waiting` (unauthenticated), `held` (until their devices are"
            " approved, see `GATEWAY_WAIT_SECONDS`) or `admitted`.",
            ["state"],
            registry=self.registry,
        )
        self.holds = ReadCounter(
            "latchkey_gateway_holds",
            "Ended holds of clients that needed approval, by why: `granted` (approved),"
            " `ended` (rejected, expired or removed), `time` (`GATEWAY_WAIT_SECONDS`, or as long"
            " as the client waits), `replaced` (by another connection of the device), `displaced`"
            " (its place was needed), `unavailable` (no lease, or history lost), `restart`, or"
            " `gone`.",
            ["end"],
            self.registry,
        )
        self.held_bytes = Gauge(
            "latchkey_gateway_held_bytes",
            "Total size of messages that are incomplete or that clients have not read;"
            " `GATEWAY_MEMORY_LIMIT_MB` limits it.",
            registry=self.registry,
        )
        self.shed = ReadCounter(
            "latchkey_gateway_shed",
            "Connections closed with 1013, by reason: `memory` (it held the most when"
            " `GATEWAY_MEMORY_LIMIT_MB` was exceeded) or `deadline` (a message did not arrive"
            " within 120 s).",
            ["reason"],
            self.registry,
        )
        self.loop_delay = Gauge(
            "latchkey_gateway_loop_delay_seconds",
            "How late the last sweep was. Above 0.1 the process is short of CPU.",
            registry=self.registry,
        )
        self.waiting = Gauge(
            "latchkey_gateway_waiting",
            "Sockets whose bytes wait for time of the event loop: `sessions`, `handshakes` (also"
            " while the window of questions is full) or `upgrades`.",
            ["lane"],
            registry=self.registry,
        )
        self.window = Gauge(
            "latchkey_gateway_question_window",
            "How many questions about admissions may be open: 768 while approval answers quickly,"
            " less (4 at least) while it is slow.",
            registry=self.registry,
        )
        self.questions = Gauge(
            "latchkey_gateway_questions_open",
            "Open questions about admissions. Handshakes wait while they fill the window.",
            registry=self.registry,
        )
        self.tasks = Gauge(
            "latchkey_gateway_tasks",
            "Unfinished tasks of the event loop, including the scrape's own. Independent of the"
            " number of connections, which have no tasks.",
            registry=self.registry,
        )

    def watch_connections(
        self, waiting: Callable[[], float], admitted: Callable[[], float]
    ) -> None:
        """Read the numbers of open connections on each scrape."""
        self.connections.labels("waiting").set_function(waiting)
        self.connections.labels("admitted").set_function(admitted)

    def watch_held(self, held: HeldConnections) -> None:
        """Read the number of held connections, and how holds ended, on each scrape."""
        self.connections.labels("held").set_function(lambda: len(held))
        for end in held.ended:
            self.holds.watch(partial(held.ended.__getitem__, end), end.value)

    def watch_memory(self, memory: MemoryBudget) -> None:
        """Read the bytes that sockets hold, and the counts of shed sockets, on each scrape."""
        self.held_bytes.set_function(lambda: memory.held_bytes)
        self.shed.watch(lambda: memory.shed_for_memory, "memory")
        self.shed.watch(lambda: memory.shed_for_time, "deadline")

    def watch_displaced(self, displaced: Mapping[str, int]) -> None:
        """Read how many connections were displaced on each scrape, by the name of the limit."""
        for limit in displaced:
            self.displaced.watch(partial(displaced.__getitem__, limit), limit)

    def watch_admissions(self, budget: LoopBudget, window: QuestionWindow) -> None:
        """Read what waits for admission on each scrape."""
        for lane in Lane:
            self.waiting.labels(lane.name.lower()).set_function(partial(budget.waiting, lane))
        self.window.set_function(lambda: window.size)
        self.questions.set_function(lambda: window.open)

    def watch_tasks(self) -> None:
        """Count the tasks of the event loop on each scrape."""
        self.tasks.set_function(unfinished_tasks)
