"""The observations of one case of a fault. Times are monotonic, in seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from tools.drills.load.grants import Grants

CUT_OFF: Final = "cut off"
"""The code of a connection that was closed without an error frame."""
ONCE: Final = frozenset({"requested", "approved", "rejected"})
"""Actions that happen at most once for a request id."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A `connect` with its outcome. `why` is empty for an admission, else the error code.

    `replica` is a boot id, until `name_replicas`.
    """

    device: str
    began: float
    at: float
    replica: str
    why: str = ""


@dataclass(slots=True)
class Session:
    """A connection that a device holds; `code` is its close code."""

    device: str
    replica: str
    opened: float
    closed: float | None = None
    code: int = 0
    served: float = 0.0
    """When it was last answered; only for sockets of a revoked device."""


@dataclass(frozen=True, slots=True)
class Approval:
    """The response to an operator's approval of a pending request."""

    device: str
    request_id: str
    at: float
    status: int = 200


@dataclass(slots=True)
class Revoke:
    """Removal of a device that is connected to every gateway; `answered`: the call returned."""

    device: str
    sessions: list[Session]
    asked: float | None = None
    answered: float | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the audit log."""

    id: int
    action: str
    device: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Frozen:
    """A paused replica (SIGSTOP), which can neither act nor be observed."""

    replica: str
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A line of the timeline: an action of the drill."""

    at: float
    text: str


@dataclass(slots=True, kw_only=True)
class Observed:
    """One case: fault, target, round and observations."""

    fault: str
    case: str
    round: int
    grants: Grants
    churning: frozenset[str] = frozenset()
    """Ids of churning devices, each of which has to be admitted again."""
    began: float = 0.0
    struck: float = 0.0
    """When the fault took effect, from which the lease is counted."""
    over: float = 0.0
    ended: float = math.inf
    """When everything had recovered and observation ended."""
    attempts: list[Attempt] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    """The sessions held when the fault began."""
    approvals: list[Approval] = field(default_factory=list)
    """All responses to both operators."""
    revoke: Revoke | None = None
    frozen: list[Frozen] = field(default_factory=list)
    audit: list[Entry] = field(default_factory=list)
    """The entries written to the audit log meanwhile."""
    audited: int = 0
    """The number of the last entry that was read."""
    decided_before: frozenset[tuple[str, str]] = frozenset()
    """Request ids and actions that were in the audit log before."""
    paired: frozenset[str] | None = None
    """Ids of paired devices afterwards; None if unknown."""
    marks: list[Mark] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Descriptions of what did not recover by itself."""

    failover_seconds: float | None = None
    """From a failover until a device was admitted that tried all the time."""

    drill_stalled: float = 0.0
    redis_stalled: float = 0.0
    """The longest delays of the drill's own process, and of a write to Redis."""

    def name_replicas(self, name_of: Callable[[str], str]) -> None:
        """Replace boot ids by names, when those of new processes are known as well."""
        self.attempts = [
            replace(attempt, replica=name_of(attempt.replica)) for attempt in self.attempts
        ]

    def frozen_until(self, replica: str, at: float) -> float:
        """Return when a replica paused at this time resumed; otherwise this time."""
        ends = [
            item.until
            for item in self.frozen
            if item.replica == replica and item.since <= at < item.until
        ]
        return max(ends, default=at)
