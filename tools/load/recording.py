"""Records of a run: phases, points in time, and connections that ended or returned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tools.load.client.verdicts import Kind
from tools.load.report.histogram import Histogram
from tools.load.workers.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.load.workers.messages import Ended, Progress


@dataclass(slots=True)
class PhaseRecord:
    """One phase: its start and end (time.monotonic()) and the results of its attempts."""

    name: str
    counted: bool = True
    is_churn: bool = True
    begin: float = 0.0
    end: float = 0.0
    tally: Tally = field(default_factory=Tally)

    @property
    def seconds(self) -> float:
        """The duration."""
        return max(self.end - self.begin, 1e-9)

    @property
    def verdicts(self) -> int:
        """Correct decisions; of churn only those made during the phase."""
        return self.tally.verdicts if self.is_churn else self.tally.right

    @property
    def per_second(self) -> float:
        """Correct decisions per second."""
        return self.verdicts / self.seconds


@dataclass(frozen=True, slots=True)
class Point:
    """A short interval that ends at `at`: decisions per second, and the state at its end."""

    at: float
    admitted: float
    refused: float
    others: float
    p50_us: int
    p99_us: int
    in_flight: int
    held: int


@dataclass(slots=True)
class WorkerRecord:
    """A worker: its CPU seconds over time, and its longest delay of a start."""

    cpu: list[tuple[float, float]] = field(default_factory=list)
    late: float = 0.0
    in_flight: int = 0
    held: int = 0
    to_open: int | None = None

    def busy(self, begin: float, end: float) -> float:
        """Return the share of a core that it used between two times."""
        within = [item for item in self.cpu if begin - 0.5 <= item[0] <= end + 0.5]
        if len(within) < 2:
            return 0.0
        (first, cpu), (last, cpu_2) = within[0], within[-1]
        return (cpu_2 - cpu) / (last - first)


class Recording:
    """Everything that workers have reported."""

    def __init__(self, phases: Sequence[PhaseRecord], workers: int) -> None:
        self.phases = list(phases)
        self.workers = [WorkerRecord() for _ in range(workers)]
        self.points: list[Point] = []
        self.ended: list[Ended] = []
        self.back: list[float] = []
        self._bin = Tally()
        self._bin_began = 0.0

    @property
    def in_flight(self) -> int:
        """Handshakes in progress."""
        return sum(worker.in_flight for worker in self.workers)

    @property
    def held(self) -> int:
        """Connections held."""
        return sum(worker.held for worker in self.workers)

    @property
    def opened(self) -> bool:
        """Whether every connection was opened or given up."""
        return all(worker.to_open == 0 for worker in self.workers)

    def took(self, kind: Kind) -> int:
        """Return how many attempts of all phases had this result."""
        return sum(phase.tally.of(kind) for phase in self.phases)

    def heard(self, progress: Progress) -> None:
        """Record a worker's report."""
        worker = self.workers[progress.worker]
        worker.cpu.append((progress.at, progress.cpu))
        worker.late = max(worker.late, progress.late)
        worker.in_flight, worker.held = progress.in_flight, progress.held
        worker.to_open = progress.to_open
        for delta in progress.deltas:
            self.phases[delta.phase].tally.add(delta)
            self._bin.add(delta)
        self.ended.extend(progress.ended)
        self.back.extend(progress.back)

    def tick(self, at: float) -> Point | None:
        """End an interval and return it; None for the first one."""
        tally, self._bin = self._bin, Tally()
        began, self._bin_began = self._bin_began, at
        if not began:
            return None
        others = sum(tally.outcomes.values()) - tally.right
        seconds = max(at - began, 1e-9)
        point = Point(
            at=at,
            admitted=tally.of(Kind.ADMITTED) / seconds,
            refused=tally.of(Kind.REFUSED) / seconds,
            others=others / seconds,
            p50_us=tally.histogram.percentile(50),
            p99_us=tally.histogram.percentile(99),
            in_flight=self.in_flight,
            held=self.held,
        )
        self.points.append(point)
        return point

    def latencies(self) -> Histogram:
        """Return the latencies of all counted phases in one histogram."""
        found = Histogram()
        for phase in self.phases:
            if phase.counted:
                found.merge(phase.tally.histogram)
        return found

    def when_back(self, percent: float, whole: int) -> float | None:
        """Return when this percentage of a storm's connections was back; None: never."""
        times = sorted(self.back)
        nth = max(1, -(-int(whole * percent) // 100))
        return times[nth - 1] if nth <= len(times) else None
