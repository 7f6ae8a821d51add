"""The dependencies that all sessions of this replica share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from services.gateway.session.access_log import AccessLogger
from shared.protocol.events import events_of
from shared.protocol.hello import Features
from shared.protocol.limits import PROTOCOLS
from shared.protocol.methods import advertised

if TYPE_CHECKING:
    import msgspec

    from services.gateway.approval.client import ApprovalClient
    from services.gateway.connections.hub import Hub
    from services.gateway.handshake.outcome import AuthConfig
    from services.gateway.methods.dispatcher import Dispatcher
    from services.gateway.methods.forwarder import Forwarder
    from services.gateway.methods.setup_client import SetupClient
    from services.gateway.metrics import Metrics
    from services.gateway.replication.recent_refusals import RecentRefusals
    from services.gateway.websocket.memory import MemoryBudget
    from shared.clock import Clock
    from shared.server.loop_budget import LoopBudget


@dataclass(frozen=True, slots=True)
class ReplicaIdentity:
    """The identity of this replica, and the approval service's public URL."""

    boot_id: str
    version: str
    approval_public_url: str


class SessionContext:
    """The collaborators that a session handler uses."""

    def __init__(
        self,
        *,
        identity: ReplicaIdentity,
        auth: AuthConfig,
        approvals: ApprovalClient,
        connections: Hub,
        dispatcher: Dispatcher,
        forwarder: Forwarder,
        metrics: Metrics,
        clock: Clock,
        refusals: RecentRefusals,
        memory: MemoryBudget,
        loop_budget: LoopBudget,
        setup: SetupClient,
    ) -> None:
        self.setup = setup
        self.identity = identity
        self.auth = auth
        self.approvals = approvals
        self.connections = connections
        self.dispatcher = dispatcher
        self.forwarder = forwarder
        self.clock = clock
        self.memory = memory
        self.loop_budget = loop_budget
        self.metrics = metrics
        self.access_log = AccessLogger(metrics, clock, identity.approval_public_url, refusals)
        self.features = {protocol: _features(protocol) for protocol in PROTOCOLS}
        self.log = structlog.get_logger("gateway")
        self.started_at = clock.monotonic()
        """When this replica started, in monotonic seconds."""


def _features(protocol: int) -> msgspec.Raw:
    """Return the methods and events of a protocol version, encoded."""
    methods = sorted(advertised(protocol))
    return Features(methods=methods, events=events_of(protocol)).encoded()
