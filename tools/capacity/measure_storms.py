"""`make capacity ARGS=--storms`: drops all devices at once and measures how they reconnect.

All services share the first core; the clients use the others. The closed-loop rate is measured
first, on the same services. Throughout, health is checked, and a few sessions are held.
"""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvloop

from deploy.local.places import ROOT
from tools.bench.cpu import pin
from tools.bench.latchkey import ONE_FOR_MANY
from tools.bench.measuring import paired
from tools.bench.subjects import latchkey
from tools.capacity.costs import MEASURED
from tools.capacity.sizing import size
from tools.capacity.storms import Storm
from tools.drills.attacks.judge import p99
from tools.drills.attacks.observed import Observed
from tools.drills.attacks.observer import Observer
from tools.load.client.dialer import raise_descriptor_limit
from tools.load.client.verdicts import Kind
from tools.load.coordinator import Stage
from tools.load.plan import Phase, Plan, Scenario
from tools.load.report.display import Display
from tools.load.scenarios import run
from tools.support.processes.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tools.bench.subjects import Subject
    from tools.load.scenarios import Run

DEVICES: Final = (1_000, 10_000, 20_000, 50_000, 100_000)
CROWD: Final = 256
"""Identities that the clients use, each for many devices."""
SESSIONS: Final = 20
VISITORS: Final = 20
IN_FLIGHT_PER_GATEWAY: Final = 32
SOURCES: Final = 4000
"""Client addresses, so that no limit per address matters."""
DEADLINE_SECONDS: Final = 10.0
"""After this, a client gives up an attempt."""
WARM_UP_SECONDS: Final = 3.0
CLOSED_SECONDS: Final = 10.0
BACK_SECONDS: Final = 600.0


class StormError(Exception):
    """A storm could not be measured."""


def measure_storms(
    numbers: Sequence[int], *, closed_seconds: float = CLOSED_SECONDS, code: Path = ROOT
) -> Iterator[Storm]:
    """Measure one storm for each number of devices. Raises StormError."""
    first, *others = sorted(os.sched_getaffinity(0))
    cores = tuple(others) or (first,)
    os.sched_setaffinity(0, cores)
    try:
        raise_descriptor_limit()
        for devices in numbers:
            yield _measure(devices, first, cores, closed_seconds, code)
    finally:
        os.sched_setaffinity(0, {first, *others})


def _measure(
    devices: int, core: int, cores: tuple[int, ...], closed_seconds: float, code: Path
) -> Storm:
    planned = size(devices, MEASURED)
    with (
        tempfile.TemporaryDirectory() as directory,
        Stack(
            Path(directory),
            gateways=planned.gateways,
            approvals=planned.approvals,
            gateway_env=ONE_FOR_MANY,
            code=code,
        ) as stack,
    ):
        for pid in (*(service.pid for service in stack.services), stack.redis.pid):
            pin(pid, core)
        subject = latchkey(stack, ())
        plan = Plan(
            scenario=Scenario.STORM,
            connections=devices,
            in_flight=IN_FLIGHT_PER_GATEWAY * planned.gateways,
            reference_back_off=True,
            back_seconds=BACK_SECONDS,
            workers=planned.gateways,
            sources=SOURCES,
            timeout=DEADLINE_SECONDS,
            worker_cpus=cores,
        )
        return uvloop.run(_Measurement(stack, subject, plan).storm(closed_seconds))


class _Measurement:
    """One storm on a stack that runs."""

    def __init__(self, stack: Stack, subject: Subject, plan: Plan) -> None:
        identities = paired(subject, SESSIONS + VISITORS + CROWD)
        self._crowd = identities[SESSIONS + VISITORS :]
        self._holders = identities[:SESSIONS]
        self._visitors = identities[SESSIONS : SESSIONS + VISITORS]
        self._stack = stack
        self._plan = plan
        # Sampling the servers would read the names of 100,000 descriptors, twice a second.
        self._system = replace(subject.system, watched=())
        self._seen = Observed(attack="a storm")

    async def storm(self, closed_seconds: float) -> Storm:
        """Measure the rate, then drop all devices while health and sessions are observed."""
        observer = Observer(self._stack, self._holders, self._visitors, self._seen)
        await observer.enter()
        try:
            rate = await self._closed_rate(closed_seconds)
            stormed = await self._run(self._plan)
            observer.count()
        finally:
            await observer.leave()
        return self._result(stormed, rate)

    async def _closed_rate(self, seconds: float) -> float:
        in_flight = self._plan.in_flight
        plan = replace(
            self._plan,
            scenario=Scenario.CLOSED,
            connections=0,
            phases=(
                Phase("warm-up", WARM_UP_SECONDS, in_flight, counted=False),
                Phase("closed", seconds, in_flight),
            ),
        )
        measured = await self._run(plan)
        return measured.recording.phases[1].tally.verdicts / seconds

    async def _run(self, plan: Plan) -> Run:
        return await run(Stage(plan, self._system, Display()), self._crowd)

    def _result(self, stormed: Run, rate: float) -> Storm:
        record, dropped = stormed.recording, stormed.dropped
        opened = record.phases[0].tally.of(Kind.ADMITTED)
        others = stormed.watch.others
        if dropped is None or opened < self._plan.connections:
            raise StormError(
                f"only {opened} of {self._plan.connections} devices were admitted at first"
            )

        def back(percent: float) -> float | None:
            at = record.when_back(percent, opened)
            return None if at is None else round(at - dropped, 1)

        end = max(record.back, default=math.inf)
        health = p99(item.seconds for item in self._seen.health if dropped <= item.began <= end)
        if health is None:
            raise StormError("no health checks were made")
        return Storm(
            devices=opened,
            gateways=len(self._stack.gateways),
            approvals=len(self._stack.approvals),
            rate=round(rate),
            half_seconds=back(50),
            most_seconds=back(99),
            all_seconds=back(100),
            attempts=round(sum(record.phases[1].tally.outcomes.values()) / opened, 2),
            health_p99=round(health, 2),
            gateway_mb=round(self._seen.gateway_bytes / 1e6),
            sessions=self._seen.sessions,
            lost=self._seen.lost,
            clients_late=round(max(worker.late for worker in record.workers), 1),
            others_cores=round(others.programs + others.stolen if others else 0.0, 2),
            clients_cores=round(sum(worker.busy(dropped, end) for worker in record.workers), 2),
        )
