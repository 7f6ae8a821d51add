"""The report of a run: all values shown as text, JSON and HTML."""

from __future__ import annotations

import platform
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from tools.load.client.verdicts import Kind
from tools.load.plan import Scenario
from tools.load.report.findings import findings
from tools.load.report.notes import notes
from tools.load.server.machine import OtherUse, busy_text
from tools.load.server.servers import ServerPoint, ServerUse, server_points, server_uses

if TYPE_CHECKING:
    from tools.load.plan import Plan
    from tools.load.recording import PhaseRecord
    from tools.load.report.histogram import Histogram
    from tools.load.scenarios import Run
    from tools.load.server.leftovers import Leftover
    from tools.load.server.subject import SystemUnderTest


class Latency(msgspec.Struct, rename="camel"):
    """Milliseconds from the intended start to the decision; `hdr` is HdrHistogram's text, in us."""

    count: int
    min: float
    mean: float
    p50: float
    p90: float
    p99: float
    p999: float
    max: float
    hdr: str


class Delay(msgspec.Struct, rename="camel"):
    """How late the load itself was to start attempts of an open loop, in milliseconds."""

    p50: float
    p99: float
    max: float


class Row(msgspec.Struct, rename="camel"):
    """Number of attempts with the same result: kind, response and close frame (0: none)."""

    kind: str
    what: str
    close_code: int
    close_reason: str
    count: int


class PhaseReport(msgspec.Struct, rename="camel"):
    """The results of one phase."""

    name: str
    counted: bool
    begin: float
    seconds: float
    per_second: float
    latency_ms: Latency
    outcomes: list[Row]
    servers: list[ServerUse]
    start_delay_ms: Delay | None
    """Null unless the phase is an open loop."""


class PointReport(msgspec.Struct, rename="camel"):
    """A short interval, identified by the seconds from the start of the run to its end."""

    at: float
    admitted: float
    refused: float
    others: float
    p50_ms: float
    p99_ms: float
    in_flight: int
    held: int


class WorkerReport(msgspec.Struct, rename="camel"):
    """A load process: its CPU as a share of a core, and its longest delay of a start."""

    busy: float
    late_ms: float


class Moments(msgspec.Struct, rename="camel", omit_defaults=True):
    """Storm and revocation times, in milliseconds from the drop or the call."""

    back50: float | None = None
    back99: float | None = None
    back100: float | None = None
    first_closed: float | None = None
    last_closed: float | None = None
    last_closed_after_its_call: float | None = None
    closes: list[Row] = []


class Report(msgspec.Struct, rename="camel"):
    """The report of a whole run."""

    scenario: str
    target: str
    at: str
    machine: str
    plan: dict[str, Any]
    findings: list[str]
    notes: list[str]
    others_cores: float | None
    """Cores used by other programs during the run; null if unknown."""
    stolen_cores: float | None
    """Cores withheld by the hypervisor; null if unknown."""
    machine_busy: str
    """Empty unless other programs used so much that the results are invalid."""
    phases: list[PhaseReport]
    points: list[PointReport]
    servers: list[ServerPoint]
    workers: list[WorkerReport]
    moments: Moments
    left_over: list[Leftover]
    """What a soak left over, without what could not be seen."""
    percentiles: list[tuple[float, float]]
    """Of all counted phases: share of attempts (0 to 1), milliseconds."""

    @property
    def others(self) -> OtherUse | None:
        """What others used of the machine during the run; None if unknown."""
        if self.others_cores is None or self.stolen_cores is None:
            return None
        return OtherUse(self.others_cores, self.stolen_cores)

    def as_json(self) -> str:
        """Return the report as JSON."""
        return msgspec.json.format(msgspec.json.encode(self)).decode() + "\n"


def make_report(plan: Plan, system: SystemUnderTest, run: Run) -> Report:
    """Create the report of a run."""
    record = run.recording
    begin = record.phases[0].begin
    counted = [phase for phase in record.phases if phase.counted and phase.end]
    first, last = counted[0].begin, counted[-1].end
    workers = [
        WorkerReport(worker.busy(first, last), worker.late * 1e3) for worker in record.workers
    ]
    all_latencies = record.latencies()
    others = run.watch.others
    return Report(
        scenario=plan.scenario.value,
        target=system.target.url if not system.is_ours else "a temporary stack",
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        plan=_plan(plan),
        findings=findings(plan, run),
        notes=notes(plan, run, workers),
        others_cores=None if others is None else others.programs,
        stolen_cores=None if others is None else others.stolen,
        machine_busy=busy_text(others),
        phases=[_phase(phase, plan, run, begin) for phase in record.phases if phase.end],
        points=[
            PointReport(
                at=point.at - begin,
                admitted=point.admitted,
                refused=point.refused,
                others=point.others,
                p50_ms=point.p50_us / 1e3,
                p99_ms=point.p99_us / 1e3,
                in_flight=point.in_flight,
                held=point.held,
            )
            for point in record.points
        ],
        servers=server_points(run.watch, begin),
        workers=workers,
        moments=_moments(plan, run),
        left_over=run.remains,
        percentiles=[(share, us / 1e3) for share, us in all_latencies.steps()],
    )


def _plan(plan: Plan) -> dict[str, Any]:
    """Return the plan without addresses and files."""
    hidden = {
        "sources_given",
        "url",
        "approval_url",
        "watched",
        "json_file",
        "html_file",
        "scenario",
    }
    values = {name: value for name, value in asdict(plan).items() if name not in hidden}
    builtins: dict[str, Any] = msgspec.to_builtins(values)
    return builtins


def _phase(phase: PhaseRecord, plan: Plan, run: Run, begin: float) -> PhaseReport:
    tally = phase.tally
    held = run.held if plan.scenario is Scenario.IDLE else 0
    return PhaseReport(
        name=phase.name,
        counted=phase.counted,
        begin=phase.begin - begin,
        seconds=phase.seconds,
        per_second=phase.per_second,
        latency_ms=_latency(tally.histogram),
        outcomes=[
            Row(outcome.kind.value, outcome.what, outcome.close_code, outcome.close_reason, count)
            for outcome, count in tally.outcomes.most_common()
        ],
        servers=server_uses(run.watch, phase, held=held),
        start_delay_ms=_delay(tally.delays) if tally.delays.count else None,
    )


def _delay(histogram: Histogram) -> Delay:
    p50, p99 = (histogram.percentile(percent) / 1e3 for percent in (50, 99))
    return Delay(p50=p50, p99=p99, max=histogram.maximum / 1e3)


def _latency(histogram: Histogram) -> Latency:
    def ms(percent: float) -> float:
        return histogram.percentile(percent) / 1e3

    return Latency(
        count=histogram.count,
        min=histogram.minimum / 1e3,
        mean=histogram.mean / 1e3,
        p50=ms(50),
        p90=ms(90),
        p99=ms(99),
        p999=ms(99.9),
        max=histogram.maximum / 1e3,
        hdr=histogram.encoded(),
    )


def _moments(plan: Plan, run: Run) -> Moments:
    record = run.recording
    ended = record.ended[run.lost :]
    closes: dict[tuple[int, str], int] = {}
    for item in ended:
        closes[item.code, item.reason] = closes.get((item.code, item.reason), 0) + 1
    found = Moments(closes=[Row("closed", "", *close, count) for close, count in closes.items()])
    if run.dropped is not None:
        dropped = run.dropped
        whole = len(ended) or record.phases[0].tally.of(Kind.ADMITTED)
        found.back50, found.back99, found.back100 = (
            (at - dropped) * 1e3 if (at := record.when_back(percent, whole)) is not None else None
            for percent in (50, 99, 100)
        )
    if plan.scenario is Scenario.REVOKE and ended and run.calls:
        called = min(run.calls.values())
        found.first_closed = (min(item.at for item in ended) - called) * 1e3
        found.last_closed = (max(item.at for item in ended) - called) * 1e3
        own = [item.at - run.calls[item.device] for item in ended if item.device in run.calls]
        found.last_closed_after_its_call = max(own, default=0.0) * 1e3
    return found
