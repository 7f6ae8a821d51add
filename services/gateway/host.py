"""What every visit to this replica finds here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from services.gateway.attempts import Attempts
from shared.protocol.events import events_of
from shared.protocol.hello import Features
from shared.protocol.limits import PROTOCOLS
from shared.protocol.methods import METHODS

if TYPE_CHECKING:
    import msgspec

    from services.gateway.approvals import Approvals
    from services.gateway.calls import Calls
    from services.gateway.connections import Connections
    from services.gateway.methods import Methods
    from services.gateway.metrics import Metrics
    from services.gateway.recent_refusals import RecentRefusals
    from services.gateway.verdicts import Rules
    from shared.clock import Clock


@dataclass(frozen=True, slots=True)
class Identity:
    """What this replica calls itself, and where people approve devices."""

    boot_id: str
    version: str
    approval_public_url: str


class Host:
    """The parts of the gateway that serve its visits."""

    def __init__(
        self,
        *,
        identity: Identity,
        rules: Rules,
        approvals: Approvals,
        connections: Connections,
        methods: Methods,
        calls: Calls,
        metrics: Metrics,
        clock: Clock,
        refusals: RecentRefusals,
    ) -> None:
        self.identity = identity
        self.rules = rules
        self.approvals = approvals
        self.connections = connections
        self.methods = methods
        self.calls = calls
        self.clock = clock
        self.attempts = Attempts(metrics, clock, identity.approval_public_url, refusals)
        self.features = {one: _features(one) for one in PROTOCOLS}
        self.log = structlog.get_logger("gateway")
        self._started = clock.monotonic()

    def uptime_ms(self) -> int:
        """Return for how long this replica has been up."""
        return int((self.clock.monotonic() - self._started) * 1000)


def _features(protocol: int) -> msgspec.Raw:
    """Return what there is in a version of the protocol, encoded."""
    methods = sorted(name for name, one in METHODS.items() if protocol in one.protocols)
    return Features(methods=methods, events=events_of(protocol)).encoded()
