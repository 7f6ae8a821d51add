"""Results of many attempts: per worker since its last report, and in total."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tools.load.client.verdicts import Kind, Outcome
from tools.load.report.histogram import Histogram

if TYPE_CHECKING:
    from tools.load.client.session import Session

MICROSECONDS: Final = 1_000_000


@dataclass(slots=True)
class Delta:
    """What ended in one phase since the last report.

    `latencies`, in us from the intended start to the decision, are those of correct decisions;
    `delays`, in us, are those of the starts of an open loop; `verdicts` counts correct decisions
    made during the phase, whenever their attempts began.
    """

    phase: int
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    latencies: array[int] = field(default_factory=lambda: array("Q"))
    delays: array[int] = field(default_factory=lambda: array("Q"))
    verdicts: int = 0

    def add_start(self, late: float) -> None:
        """Record how many seconds after its intended time an attempt of an open loop started."""
        self.delays.append(int(late * MICROSECONDS))

    def add(self, session: Session) -> bool:
        """Count a completed attempt; return whether the decision was correct."""
        outcome = session.outcome
        self.outcomes[outcome] += 1
        right = outcome.kind is Kind.ADMITTED or outcome.kind is Kind.REFUSED
        if right:
            self.latencies.append(int((session.decided - session.began) * MICROSECONDS))
        return right


@dataclass(slots=True)
class Tally:
    """The results of all attempts of one phase."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    histogram: Histogram = field(default_factory=Histogram)
    delays: Histogram = field(default_factory=Histogram)
    """Of the starts of an open loop: how late the load itself was."""
    verdicts: int = 0

    def add(self, delta: Delta) -> None:
        """Add a worker's report."""
        self.outcomes.update(delta.outcomes)
        self.histogram.record(delta.latencies)
        self.delays.record(delta.delays)
        self.verdicts += delta.verdicts

    def of(self, kind: Kind) -> int:
        """Return how many attempts had this result."""
        return sum(count for outcome, count in self.outcomes.items() if outcome.kind is kind)

    @property
    def right(self) -> int:
        """Return the number of correct decisions: admitted, or refused if unapproved."""
        return self.of(Kind.ADMITTED) + self.of(Kind.REFUSED)
