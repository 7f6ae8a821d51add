"""What a run shall do, as values: phases of churn, connections to hold, and numbers of each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LOOPBACK_SOURCES: Final = 16
PER_SOURCE: Final = 8
"""Default handshakes in flight per source address: a gateway allows 32."""
OPENING_IN_FLIGHT: Final = 64
REFUSAL_DEVICES: Final = 32
"""Fewer than may await approval from one address (50), so that none displaces another."""
MAX_OPEN_IN_FLIGHT: Final = 4096


class Scenario(StrEnum):
    """The available scenarios."""

    CLOSED = "closed"
    OPEN = "open"
    RAMP = "ramp"
    IDLE = "idle"
    REFUSALS = "refusals"
    STORM = "storm"
    REVOKE = "revoke"
    SOAK = "soak"


class Drop(StrEnum):
    """What closes the connections of a storm."""

    CLIENT = "client"
    RESTART = "restart"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Phase:
    """A period of churn: closed with `in_flight` handshakes, or open at `rate` per second.

    A closed one with a `rate` starts at most that many per second. Results of a phase that is not
    `counted` are checked but not measured.
    """

    name: str
    seconds: float
    in_flight: int
    rate: float | None = None
    is_open: bool = False
    counted: bool = True
    poisson: bool = False
    """Open: attempts begin at random moments, independently of each other, not evenly."""
    seed: int = 0
    """Of the random moments: the same seed gives the same ones."""

    def share(self, part: int, parts: int) -> Phase:
        """Return one worker's share of several."""
        return Phase(
            name=self.name,
            seconds=self.seconds,
            in_flight=share(self.in_flight, part, parts),
            rate=None if self.rate is None else self.rate / parts,
            is_open=self.is_open,
            counted=self.counted,
            poisson=self.poisson,
            seed=self.seed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole run."""

    scenario: Scenario
    phases: tuple[Phase, ...] = ()
    """For closed, open, ramp, refusals, soak."""
    connections: int = 0
    """To hold, for idle, storm, revoke."""
    seconds: float = 0
    """How long to hold them."""
    in_flight: int = OPENING_IN_FLIGHT
    """Handshakes in flight while opening them."""
    drop: Drop = Drop.CLIENT
    jitter: float = 0
    """Storm: each reconnects after up to this many seconds."""
    pace: float | None = None
    """Maximum connections started per second, if limited."""
    reference_back_off: bool = False
    """Storm: clients reconnect after 1, 2, 4 … 30 s, as the reference client does."""
    worker_cpus: tuple[int, ...] = ()
    """CPUs on which the workers run, if not on all."""
    back_seconds: float = 60
    """Storm: how long to wait until all are back."""

    devices: int = 256
    workers: int = 1
    sources: int = LOOPBACK_SOURCES
    """Number of loopback addresses that the load uses."""
    sources_given: bool = False
    """Whether this number was given explicitly."""
    timeout: float = 10
    """Maximum duration of an attempt in seconds."""
    shared_token: bool = False

    url: str = ""
    """Empty: a temporary stack."""
    approval_url: str = ""
    watched: tuple[int, ...] = ()
    json_file: Path | None = None
    html_file: Path | None = None

    @property
    def approved(self) -> bool:
        """Whether the devices are approved in advance."""
        return self.scenario is not Scenario.REFUSALS


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits for a target on another machine."""

    rate: float = 20
    seconds: float = 60
    connections: int = 200
    devices: int = 32
    in_flight: int = 16

    def problems(self, plan: Plan) -> list[str]:
        """Return where the plan exceeds the limits."""
        found = []
        rates = [phase.rate for phase in plan.phases if phase.is_open and phase.rate is not None]
        if rates and max(rates) > self.rate:
            found.append(f"a rate of {max(rates):g}/s; at most {self.rate:g} (--allow-rate)")
        seconds = plan.seconds + sum(phase.seconds for phase in plan.phases)
        if seconds > self.seconds:
            found.append(f"{seconds:g} seconds; at most {self.seconds:g} (--allow-seconds)")
        if plan.connections > self.connections:
            found.append(
                f"{plan.connections} connections; at most {self.connections} (--allow-connections)"
            )
        return found


@dataclass(frozen=True, slots=True)
class Hold:
    """What one worker of several holds."""

    connections: int
    in_flight: int
    pace: float | None = None
    first_slot: int = 0


def share(whole: int, part: int, parts: int) -> int:
    """Return one worker's share of a whole number; the shares add up to it."""
    return whole // parts + (1 if part < whole % parts else 0)


def holds(plan: Plan) -> list[Hold]:
    """Return what each worker holds."""
    found: list[Hold] = []
    first = 0
    for part in range(plan.workers):
        connections = share(plan.connections, part, plan.workers)
        found.append(
            Hold(
                connections=connections,
                in_flight=max(1, share(plan.in_flight, part, plan.workers)),
                pace=None if plan.pace is None else plan.pace / plan.workers,
                first_slot=first,
            )
        )
        first += connections
    return found


def ramp(
    first: float, last: float, step: float, seconds: float, in_flight: int
) -> tuple[Phase, ...]:
    """Return open phases with rates from first to last, both included."""
    rates: list[float] = []
    rate = first
    direction = 1 if last >= first else -1
    while (last - rate) * direction > 0:
        rates.append(rate)
        rate += step * direction
    rates.append(last)
    return tuple(
        Phase(f"{rate:g}/s", seconds, in_flight, rate=rate, is_open=True) for rate in rates
    )


def sources_for(in_flight: int) -> int:
    """Return how many source addresses keep each below a gateway's limit."""
    return max(LOOPBACK_SOURCES, -(-in_flight // PER_SOURCE))


def max_in_flight(phases: Sequence[Phase]) -> int:
    """Return the maximum number of handshakes in flight over the phases."""
    return max((phase.in_flight for phase in phases), default=0)
