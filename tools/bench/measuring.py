"""One measurement: a load plan on a subject, and its figures."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import uvloop

from tools.load.client.dialer import Dialer, loopback_sources
from tools.load.client.verdicts import Kind
from tools.load.coordinator import Stage
from tools.load.options import MAX_SOURCES
from tools.load.plan import Phase, Plan, Scenario, sources_for
from tools.load.report.display import Display
from tools.load.report.report import make_report
from tools.load.report.text import describe
from tools.load.scenarios import run
from tools.load.server.approval import Approval
from tools.load.server.pairing import Caller, new_identities, pair

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tools.bench.subjects import Subject
    from tools.load.client.devices import Identity
    from tools.load.report.report import Report
    from tools.load.server.machine import OtherUse

WARM_UP_SECONDS: Final = 0.5
MAX_IN_FLIGHT: Final = 4096
ADMITTED: Final = Kind.ADMITTED.value
REFUSED: Final = Kind.REFUSED.value


@dataclass(frozen=True, slots=True)
class Figures:
    """Results of one round. `cpu_us` is CPU of all server processes per decision."""

    per_second: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    load: float
    """The busiest worker's share of its core."""
    cpu_us_by_role: Mapping[str, float] = field(default_factory=dict)
    start_delay_p99_ms: float = 0.0
    """Of an open loop: how late the load itself started attempts."""
    others: OtherUse | None = None
    """What other programs used meanwhile; None if unknown."""
    wrong: str = ""


def closed(scenario: Scenario, seconds: float, in_flight: int, *, workers: int) -> Plan:
    """Return a closed loop with this many handshakes in flight, from enough addresses."""
    phase = Phase(scenario.value, seconds, in_flight)
    return _churn(scenario, phase, sources_for(in_flight), workers)


def open_loop(seconds: float, rate: float, *, workers: int, seed: int) -> Plan:
    """Return an open loop at a rate per second; clients arrive independently of each other."""
    phase = Phase("open", seconds, MAX_IN_FLIGHT, rate=rate, is_open=True, poisson=True, seed=seed)
    return _churn(Scenario.OPEN, phase, MAX_SOURCES, workers)


def _churn(scenario: Scenario, phase: Phase, sources: int, workers: int) -> Plan:
    warm_up = replace(phase, name="warm-up", seconds=WARM_UP_SECONDS, counted=False)
    return Plan(scenario=scenario, phases=(warm_up, phase), sources=sources, workers=workers)


def measure(subject: Subject, plan: Plan, identities: Sequence[Identity] | None = None) -> Figures:
    """Run a churn plan on a subject."""
    report = reported(subject, plan, identities)
    phase = report.phases[-1]
    others = [
        f"{row.count} {describe(row)}"
        for row in phase.outcomes
        if row.kind not in {ADMITTED, REFUSED}
    ]
    by_role = {use.role: use.cpu_us_each or 0.0 for use in phase.servers}
    return Figures(
        per_second=phase.per_second,
        cpu_us=sum(by_role.values()),
        cpu_us_by_role=by_role,
        p50_ms=phase.latency_ms.p50,
        p99_ms=phase.latency_ms.p99,
        load=max(worker.busy for worker in report.workers),
        start_delay_p99_ms=phase.start_delay_ms.p99 if phase.start_delay_ms else 0.0,
        others=report.others,
        wrong=", ".join([*report.findings, *others]),
    )


def reported(subject: Subject, plan: Plan, identities: Sequence[Identity] | None = None) -> Report:
    """Run a plan on a subject and return the load tool's own report."""
    return uvloop.run(_reported(subject, plan, identities or subject.identities))


async def _reported(subject: Subject, plan: Plan, identities: Sequence[Identity]) -> Report:
    system = subject.system
    quiet = Display(io.StringIO())
    if plan.scenario is not Scenario.REVOKE:
        recorded = await run(Stage(plan, system, quiet), identities)
    else:
        async with Approval(system.approval_url, system.admin_token) as approval:
            recorded = await run(Stage(plan, system, quiet, approval), identities)
    return make_report(plan, system, recorded)


def paired(subject: Subject, count: int) -> list[Identity]:
    """Pair new devices with a subject."""
    return uvloop.run(_paired(subject, count))


async def _paired(subject: Subject, count: int) -> list[Identity]:
    system = subject.system
    dialler = Dialer(system.target, loopback_sources(1))  # retries from a known address
    await dialler.prepare()
    async with Approval(system.approval_url, system.admin_token) as approval:
        return await pair(
            new_identities(count),
            caller=Caller(system.target, dialler, 30),
            approval=approval,
            gateway_token=system.gateway_token,
            shared_token=False,
            done=lambda _: None,
        )
