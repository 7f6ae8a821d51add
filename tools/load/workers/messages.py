"""Messages between the coordinator and its workers, sent over a pipe."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.load.client.devices import Identity
    from tools.load.client.target import Target
    from tools.load.plan import Hold, Phase
    from tools.load.workers.tally import Delta


@dataclass(frozen=True, slots=True)
class Job:
    """Everything a worker needs to know: `phases` of churn, or connections to `hold`."""

    worker: int
    workers: int
    target: Target
    sources: list[str]
    gateway_token: str = field(repr=False)
    identities: list[Identity] = field(repr=False)
    timeout: float
    phases: tuple[Phase, ...] = ()
    hold: Hold | None = None
    cpus: tuple[int, ...] = ()
    """On which it runs, if not on all."""


@dataclass(frozen=True, slots=True)
class Go:
    """Start at this time (time.monotonic(), which all processes of a machine share)."""

    at: float


@dataclass(frozen=True, slots=True)
class ComeBack:
    """Reopen every held connection that ends, after up to `jitter` seconds.

    `drop`: close all of them now. `reference_back_off`: wait 1 s first, then 2, 4 … 30 s after
    failures, without jitter, as the reference client does.
    """

    jitter: float
    drop: bool
    reference_back_off: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """Close all connections and end."""


Order = Go | ComeBack | Stop


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker waits for Go."""

    worker: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A held connection ended: number, time, close code (1006: none) and reason."""

    slot: int
    device: int
    at: float
    code: int
    reason: str


@dataclass(slots=True)
class Progress:
    """What happened since the previous report.

    `cpu` is the worker's total CPU seconds, `late` the longest delay of a start in seconds, `held`
    the number of open connections, `to_open` the number not yet opened, `back` when those of a
    storm were admitted again.
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
    """The worker has completed its job."""

    worker: int


@dataclass(frozen=True, slots=True)
class Trouble:
    """The worker cannot continue."""

    worker: int
    what: str


Report = Ready | Progress | Done | Trouble
