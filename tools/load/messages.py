"""What the conductor and its workers say to each other, over a pipe."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.load.devices import Identity
    from tools.load.plan import Hold, Phase
    from tools.load.tally import Delta
    from tools.load.target import Target


@dataclass(frozen=True, slots=True)
class Job:
    """All that a worker has to know. `phases` of churn, or connections to `hold`."""

    worker: int
    workers: int
    target: Target
    sources: list[str]
    gateway_token: str = field(repr=False)
    identities: list[Identity] = field(repr=False)
    timeout: float
    phases: tuple[Phase, ...] = ()
    hold: Hold | None = None


@dataclass(frozen=True, slots=True)
class Go:
    """Begin at this time (time.monotonic(), one clock for all processes of a machine)."""

    at: float


@dataclass(frozen=True, slots=True)
class ComeBack:
    """From now on every held connection that ends comes back after up to `jitter` seconds.

    `drop`: end all of them now.
    """

    jitter: float
    drop: bool


@dataclass(frozen=True, slots=True)
class Stop:
    """Close what is open and end."""


Order = Go | ComeBack | Stop


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker waits for Go."""

    worker: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A held connection ended: which, when, by which close code (1006: none) and reason."""

    slot: int
    device: int
    at: float
    code: int
    reason: str


@dataclass(slots=True)
class Progress:
    """What happened since the last of these.

    `cpu` is all CPU seconds of the worker so far, `late` the longest that a start was behind its
    time in seconds, `held` how many connections are, `to_open` how many were not yet, `back` when
    those of a storm were admitted again.
    """

    worker: int
    at: float
    cpu: float
    in_flight: int
    held: int = 0
    to_open: int = 0
    late: float = 0.0
    deltas: list[Delta] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    back: array[float] = field(default_factory=lambda: array("d"))


@dataclass(frozen=True, slots=True)
class Done:
    """The worker has done all it had to."""

    worker: int


@dataclass(frozen=True, slots=True)
class Trouble:
    """The worker cannot go on."""

    worker: int
    what: str


Report = Ready | Progress | Done | Trouble
