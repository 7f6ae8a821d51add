"""What was seen in one case of a fault. Times are monotonic, in seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from tools.drills.grants import Grants

CUT_OFF: Final = "cut off"
"""The code of a connect that was closed without a word."""
ONCE: Final = frozenset({"requested", "approved", "rejected"})
"""Actions that happen once at most for a request id."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A connect that ended with a verdict. `why` is empty for an admission, else its code.

    `replica` is a boot id, until `name_replicas`.
    """

    device: str
    began: float
    at: float
    replica: str
    why: str = ""


@dataclass(slots=True)
class Session:
    """A connection that a device holds; `code` is how it was closed."""

    device: str
    replica: str
    opened: float
    closed: float | None = None
    code: int = 0
    served: float = 0.0
    """When it was answered last; for the sockets of a revoked device alone."""


@dataclass(frozen=True, slots=True)
class Approval:
    """The answer that an operator got to an approval of what a device waited under."""

    device: str
    request_id: str
    at: float
    status: int = 200


@dataclass(slots=True)
class Revoke:
    """A device with a connection at every gateway is removed; `answered`: the call came back."""

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
    """A replica that was stopped (SIGSTOP): it can do nothing, and nothing can be seen of it."""

    replica: str
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A line of the timeline: what the drill did."""

    at: float
    text: str


@dataclass(slots=True, kw_only=True)
class Observed:
    """One case: which fault, of whom, in which round, and all that came of it."""

    fault: str
    case: str
    round: int
    grants: Grants
    churning: frozenset[str] = frozenset()
    """Device ids of those who come and go, each of whom has to get in again."""
    began: float = 0.0
    struck: float = 0.0
    """When the fault took effect: what is closed within the lease is closed from then on."""
    over: float = 0.0
    ended: float = math.inf
    """When everything was back and nobody looked any more."""
    attempts: list[Attempt] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    """Those that were held when it began."""
    approvals: list[Approval] = field(default_factory=list)
    """All answers, of both operators."""
    revoke: Revoke | None = None
    frozen: list[Frozen] = field(default_factory=list)
    audit: list[Entry] = field(default_factory=list)
    """What was written there meanwhile."""
    audited: int = 0
    """The number of the last entry that was read."""
    decided_before: frozenset[tuple[str, str]] = frozenset()
    """Request ids and actions that stood there before."""
    paired: frozenset[str] | None = None
    """Device ids that are paired afterwards; None where nobody could say."""
    marks: list[Mark] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """What did not come back by itself, in words."""

    drill_stalled: float = 0.0
    redis_stalled: float = 0.0
    """The longest time that the drill's own process was late, and that Redis took for a write."""

    def name_replicas(self, name_of: Callable[[str], str]) -> None:
        """Put names in the place of boot ids; those of new processes are known by now."""
        self.attempts = [replace(one, replica=name_of(one.replica)) for one in self.attempts]

    def frozen_until(self, replica: str, at: float) -> float:
        """Return when a replica that was stopped at this time went on; else this time."""
        ends = [
            one.until
            for one in self.frozen
            if one.replica == replica and one.since <= at < one.until
        ]
        return max(ends, default=at)
