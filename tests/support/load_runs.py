"""Builders for recorded runs, as workers would have reported them."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import TYPE_CHECKING

from tools.load.client.target import read_target
from tools.load.client.verdicts import Kind, Outcome
from tools.load.plan import Phase, Plan, Scenario
from tools.load.recording import PhaseRecord, Recording
from tools.load.scenarios import Run
from tools.load.server.leftovers import Leftover
from tools.load.server.processes import Sample, Watch, Watched
from tools.load.server.subject import SystemUnderTest
from tools.load.workers.messages import Ended, Progress
from tools.load.workers.tally import Delta

if TYPE_CHECKING:
    from collections.abc import Sequence

ADMITTED = Outcome(Kind.ADMITTED)
SYSTEM = SystemUnderTest(
    read_target("ws://127.0.0.1:18789"), "http://127.0.0.1:18790", "gateway-secret", "admin-secret"
)


def churned(*outcomes: Outcome, seconds: float = 2.0, latencies: Sequence[int] = ()) -> Run:
    """Return a run of one phase from 100 to 100 + seconds with these outcomes."""
    run = Run(Recording([PhaseRecord("closed", begin=100.0, end=100.0 + seconds)], 1), watched())
    run.recording.tick(100.0)
    right = sum(outcome.kind in {Kind.ADMITTED, Kind.REFUSED} for outcome in outcomes)
    run.recording.heard(
        Progress(
            worker=0,
            at=100.0 + seconds,
            cpu=1.0,
            in_flight=0,
            deltas=[
                Delta(
                    0,
                    outcomes=Counter(outcomes),
                    latencies=array("Q", latencies or [1000] * right),
                    verdicts=right,
                )
            ],
        )
    )
    run.recording.tick(100.0 + seconds)
    return run


def held(scenario: Scenario, opened: int, ended: Sequence[Ended] = ()) -> tuple[Plan, Run]:
    """Return a run that opened this many connections, of which these ended."""
    phases = [
        PhaseRecord("opening", is_churn=False, begin=100.0, end=101.0),
        PhaseRecord("then", is_churn=False, begin=101.0, end=103.0),
    ]
    run = Run(Recording(phases, 1), watched(), held=opened)
    opening = Delta(0, Counter({ADMITTED: opened}), array("Q", [1000] * opened))
    run.recording.heard(
        Progress(0, 103.0, 1.0, 0, held=opened, deltas=[opening], ended=list(ended))
    )
    return Plan(scenario=scenario, connections=10), run


def soaked(seconds: float = 300.0, *, megabytes: Sequence[float] = (50,)) -> tuple[Plan, Run]:
    """Return a soak with these samples of the gateway's memory, evenly spaced."""
    run = churned(ADMITTED, seconds=seconds)
    step = seconds / max(1, len(megabytes) - 1)
    run.watch.samples[7] = [
        Sample(100.0 + n * step, 0.0, int(size * 2**20), 20, 1) for n, size in enumerate(megabytes)
    ]
    run.remains = [
        Leftover("gateway", "descriptors", 16, 16, left=0),
        Leftover("gateway", "tasks", 7, 7, left=0),
    ]
    return Plan(scenario=Scenario.SOAK, phases=(Phase("soak", seconds, 64),)), run


def watched() -> Watch:
    """Return a gateway that used half a core for three seconds and grew by 1 MB in each."""
    watch = Watch([Watched("gateway", 7)])
    watch.samples[7] = [Sample(100.0 + n, n * 0.5, (50 + n) << 20, 20 + n, 1) for n in range(4)]
    return watch
