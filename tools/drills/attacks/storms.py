"""Storms of honest clients: more connects than can be admitted, and a reconnect of everybody.

The services run on one half of the CPUs and the clients on the other, so that clients take nothing
from what is measured. The closed-loop rate is measured first, on the same services.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypedDict

from tools.drills.attacks.attack import Attack, Newcomers
from tools.drills.attacks.storm_result import StormResult
from tools.load.client.verdicts import Kind
from tools.load.coordinator import Stage
from tools.load.plan import Phase, Plan, Scenario
from tools.load.scenarios import Run, run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tools.load.client.devices import Identity
    from tools.load.client.target import Target
    from tools.load.report.display import Display
    from tools.load.server.subject import SystemUnderTest

OFFERED_RATIO: Final = 10.0
"""Connects offered, relative to the closed-loop rate."""
OFFERED_LIMIT_PER_SECOND: Final = 7000.0
"""What the clients can offer without being the limit themselves."""
DEADLINE_SECONDS: Final = 10.0
"""After this a client gives up and closes."""
CLOSED_SECONDS: Final = 10.0
CLOSED_IN_FLIGHT: Final = 64
WORKERS: Final = 4
IN_FLIGHT_LIMIT: Final = 72_000
"""Sockets of all clients at once, as many as their workers may have open."""
SOURCES: Final = 4000
"""Client addresses, so that no limit per address matters."""
BACK_SECONDS: Final = 240.0
STORM_SETTINGS: Final = {
    # One device stands for many here.
    "GATEWAY_CONNECTION_LIMIT_PER_DEVICE": "10000",
}


class Clients(TypedDict):
    """Whether the clients themselves were the limit."""

    clients_busy: float
    clients_late: float


@dataclass(frozen=True, slots=True)
class StormScene:
    """Where a storm takes place, and how large it is. `begin` and `over` mark its duration."""

    system: SystemUnderTest
    identities: Sequence[Identity]
    display: Display
    gateways: Sequence[Target]
    seconds: float
    devices: int
    begin: Callable[[float], None]
    over: Callable[[], None]


async def more_than_can_be_admitted(scene: StormScene) -> StormResult:
    """Offer ten times the closed-loop rate; clients arrive independently of each other."""
    rate = await _closed_rate(scene)
    phase = Phase(
        "storm",
        scene.seconds,
        IN_FLIGHT_LIMIT,
        rate=min(OFFERED_RATIO * rate, OFFERED_LIMIT_PER_SECOND),
        is_open=True,
        poisson=True,
    )
    scene.begin(time.monotonic())
    stormed = await _run(scene, _plan(Scenario.OPEN, phase))
    scene.over()
    tally = stormed.recording.phases[0].tally
    return StormResult(
        closed_rate=rate,
        offered=sum(tally.outcomes.values()),
        completed=tally.right,
        goodput=tally.verdicts / scene.seconds,
        offered_rate=sum(tally.outcomes.values()) / scene.seconds,
        admitted_each_second=tuple(point.admitted for point in stormed.recording.points),
        in_flight_maximum=max((point.in_flight for point in stormed.recording.points), default=0),
        outcomes=_outcomes(stormed, 0),
        **_clients(stormed, 0),
    )


async def all_dropped_at_once(scene: StormScene) -> StormResult:
    """Drop all devices, which reconnect after 1, 2, 4 … 30 s as the reference client does."""
    scene = replace(scene, system=_every_gateway(scene))
    rate = await _closed_rate(scene)
    plan = replace(
        _plan(Scenario.STORM),
        connections=scene.devices,
        reference_back_off=True,
        back_seconds=BACK_SECONDS,
    )
    stormed = await _run(scene, plan)
    scene.begin(stormed.dropped or 0.0)
    scene.over()
    record = stormed.recording
    opened = record.phases[0].tally.of(Kind.ADMITTED)
    dropped = stormed.dropped or 0.0
    last, most = record.when_back(100, opened), record.when_back(99, opened)
    return StormResult(
        closed_rate=rate,
        offered=opened,
        completed=len(record.back),
        back_seconds=None if last is None else last - dropped,
        most_back_seconds=None if most is None else most - dropped,
        dropped=True,
        admitted_each_second=tuple(
            point.admitted for point in record.points if point.at >= dropped
        ),
        in_flight_maximum=max((point.in_flight for point in record.points), default=0),
        outcomes=_outcomes(stormed, 1),
        **_clients(stormed, 1),
    )


def halves() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the CPUs of the services and those of the clients; the same if there is only one."""
    cpus = sorted(os.sched_getaffinity(0))
    middle = len(cpus) // 2
    return (tuple(cpus[:middle]), tuple(cpus[middle:])) if middle else (tuple(cpus), tuple(cpus))


async def _closed_rate(scene: StormScene) -> float:
    phases = (
        Phase("warm-up", CLOSED_SECONDS / 4, CLOSED_IN_FLIGHT, counted=False),
        Phase("closed", CLOSED_SECONDS, CLOSED_IN_FLIGHT),
    )
    measured = await _run(scene, _plan(Scenario.CLOSED, *phases))
    return measured.recording.phases[1].tally.verdicts / CLOSED_SECONDS


async def _run(scene: StormScene, plan: Plan) -> Run:
    services, _ = halves()
    for watched in scene.system.watched:
        os.sched_setaffinity(watched.pid, services)
    return await run(Stage(plan, scene.system, scene.display), scene.identities)


def _plan(scenario: Scenario, *phases: Phase) -> Plan:
    return Plan(
        scenario=scenario,
        phases=phases,
        workers=WORKERS,
        sources=SOURCES,
        timeout=DEADLINE_SECONDS,
        worker_cpus=halves()[1],
    )


def _every_gateway(scene: StormScene) -> SystemUnderTest:
    """Return the system with clients spread over all gateways: one has not enough descriptors."""
    first, *others = scene.gateways
    return replace(scene.system, target=first, more_targets=tuple(others))


def _clients(stormed: Run, phase: int) -> Clients:
    record = stormed.recording
    begin, end = record.phases[phase].begin, record.phases[phase].end
    return Clients(
        clients_busy=sum(worker.busy(begin, end) for worker in record.workers),
        clients_late=max(worker.late for worker in record.workers),
    )


def _outcomes(stormed: Run, phase: int) -> tuple[tuple[str, int], ...]:
    counts: Counter[str] = Counter()
    for outcome, count in stormed.recording.phases[phase].tally.outcomes.items():
        counts[f"{outcome.kind} {outcome.what}".rstrip()] += count
    return tuple(counts.most_common())


ATTACKS: Final = (
    Attack(
        name="ten times as many connects as are admitted",
        storm=more_than_can_be_admitted,
        gateway_settings=STORM_SETTINGS,
        newcomers=Newcomers.NOBODY,
    ),
    Attack(
        name="all devices dropped at once",
        storm=all_dropped_at_once,
        gateway_settings=STORM_SETTINGS,
        newcomers=Newcomers.NOBODY,
    ),
)
