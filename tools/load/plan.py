"""What a run shall do, as values: phases of churn, connections to hold, how many of what."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LOOPBACK_SOURCES: Final = 16
PER_SOURCE: Final = 8
"""Handshakes in flight for each source address, unless told otherwise: a gateway allows 32."""
OPENING_IN_FLIGHT: Final = 64
REFUSAL_DEVICES: Final = 32
"""Fewer than may wait for approval from one address (50), so that none displaces another."""
OPEN_IN_FLIGHT_MOST: Final = 4096


class Scenario(StrEnum):
    """What can be run."""

    CLOSED = "closed"
    OPEN = "open"
    RAMP = "ramp"
    IDLE = "idle"
    REFUSALS = "refusals"
    STORM = "storm"
    REVOKE = "revoke"
    SOAK = "soak"


class Drop(StrEnum):
    """Who ends the connections of a storm."""

    CLIENT = "client"
    RESTART = "restart"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of churn: closed with so many `in_flight`, or open at a `rate` a second.

    A closed one with a `rate` as well starts no more than that many a second. Results of one that
    is not `counted` are judged and not measured.
    """

    name: str
    seconds: float
    in_flight: int
    rate: float | None = None
    is_open: bool = False
    counted: bool = True

    def share(self, part: int, parts: int) -> Phase:
        """Return what one worker of several does of it."""
        return Phase(
            name=self.name,
            seconds=self.seconds,
            in_flight=share(self.in_flight, part, parts),
            rate=None if self.rate is None else self.rate / parts,
            is_open=self.is_open,
            counted=self.counted,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole run."""

    scenario: Scenario
    phases: tuple[Phase, ...] = ()
    """Of closed, open, ramp, refusals, soak."""
    connections: int = 0
    """To hold, of idle, storm, revoke."""
    seconds: float = 0
    """How long to hold them."""
    in_flight: int = OPENING_IN_FLIGHT
    """Handshakes in flight while opening them."""
    drop: Drop = Drop.CLIENT
    jitter: float = 0
    """Storm: each comes back after up to so many seconds."""
    pace: float | None = None
    """Connections begun a second at most, where a bound holds."""

    devices: int = 256
    workers: int = 1
    sources: int = LOOPBACK_SOURCES
    """Loopback addresses that the load comes from."""
    sources_given: bool = False
    """Whether somebody asked for just so many."""
    timeout: float = 10
    """Seconds an attempt may take."""
    shared_token: bool = False

    url: str = ""
    """Empty: a stack of its own."""
    approval_url: str = ""
    watched: tuple[int, ...] = ()
    json_file: Path | None = None
    html_file: Path | None = None

    @property
    def approved(self) -> bool:
        """Whether its devices are approved before."""
        return self.scenario is not Scenario.REFUSALS


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may be asked of a target that is not this machine."""

    rate: float = 20
    seconds: float = 60
    connections: int = 200
    devices: int = 32
    in_flight: int = 16

    def problems(self, plan: Plan) -> list[str]:
        """Return what the plan asks beyond them."""
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
    """Return one worker's share of a whole number: together they make it up."""
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
    """Return open phases whose rates rise (or fall) from first to last, both included."""
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


def most_in_flight(phases: Sequence[Phase]) -> int:
    """Return the most handshakes that phases may have in flight."""
    return max((phase.in_flight for phase in phases), default=0)
