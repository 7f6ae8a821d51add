"""Caveats for the reader of a report: not failures, but they affect the figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.load.plan import Plan
    from tools.load.report.report import WorkerReport
    from tools.load.scenarios import Run

SATURATED: Final = 0.9
"""CPU share of a worker from which on the load is regarded as limiting."""

LATE_MS: Final = 20.0
"""Delay of a start from which on it is mentioned."""


def notes(plan: Plan, run: Run, workers: Sequence[WorkerReport]) -> list[str]:
    """Return the caveats; empty if there are none."""
    found = []
    busiest = max((worker.busy for worker in workers), default=0.0)
    if busiest >= SATURATED:
        found.append(
            f"load saturated: a worker used {busiest:.0%} of its core, so the load may be the "
            "limit (--workers)"
        )
    late = max((worker.late_ms for worker in workers), default=0.0)
    if late >= LATE_MS:
        found.append(
            f"starts were up to {late:.0f} ms late because the load did not get its core; this "
            "adds to latencies, which count from the intended start"
        )
    if plan.pace is not None:
        found.append(f"paced: at most {plan.pace:g} connections started per second")
    if not any(run.watch.samples.values()):
        found.append("the servers' processes are not visible from here: no CPU, no memory")
    if run.watch.others is None:
        found.append("use of the machine by other programs cannot be determined here")
    return found
