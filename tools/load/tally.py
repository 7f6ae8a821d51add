"""What came of many attempts: in a worker since it last reported, in the report in all."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tools.load.histogram import Histogram
from tools.load.verdicts import Kind, Outcome

if TYPE_CHECKING:
    from tools.load.session import Session

MICROSECONDS: Final = 1_000_000


@dataclass(slots=True)
class Delta:
    """What ended in one phase since the last report.

    `latencies`, in us from the intended start to the verdict, are of those that were judged as was
    right; `verdicts` counts such that came while the phase lasted, whenever their attempts began.
    """

    phase: int
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    latencies: array[int] = field(default_factory=lambda: array("Q"))
    verdicts: int = 0

    def add(self, session: Session) -> bool:
        """Count an attempt that has ended; says whether it was judged as was right."""
        outcome = session.outcome
        self.outcomes[outcome] += 1
        right = outcome.kind is Kind.ADMITTED or outcome.kind is Kind.REFUSED
        if right:
            self.latencies.append(int((session.decided - session.began) * MICROSECONDS))
        return right


@dataclass(slots=True)
class Tally:
    """What came of all attempts of one phase."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    histogram: Histogram = field(default_factory=Histogram)
    verdicts: int = 0

    def add(self, delta: Delta) -> None:
        """Add what a worker reports."""
        self.outcomes.update(delta.outcomes)
        self.histogram.record(delta.latencies)
        self.verdicts += delta.verdicts

    def of(self, kind: Kind) -> int:
        """Return how many attempts came to this."""
        return sum(count for outcome, count in self.outcomes.items() if outcome.kind is kind)

    @property
    def right(self) -> int:
        """Return how many were judged as was right: admitted, or refused where that was due."""
        return self.of(Kind.ADMITTED) + self.of(Kind.REFUSED)
