"""Unacceptable results of a run, as sentences; any of them makes the run fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shared.protocol.closing import CloseCode
from tools.load.client.verdicts import Kind
from tools.load.plan import Scenario
from tools.load.server.servers import server_uses

if TYPE_CHECKING:
    from tools.load.plan import Plan
    from tools.load.scenarios import Run

GROWTH_PERCENT: Final = 5.0
"""Memory growth since the first minute that is regarded as a leak."""
GROWTH_SECONDS: Final = 300.0
"""A shorter soak says nothing about memory."""
SERVICES: Final = frozenset({"gateway", "approval"})
"""Roles whose memory is checked. Redis' is small and follows its buffers, so it is only shown."""


def findings(plan: Plan, run: Run) -> list[str]:
    """Return what went wrong, most important first; empty if nothing did."""
    record = run.recording
    found: list[str] = []
    if count := record.took(Kind.WRONGLY_ADMITTED):
        found.append(f"{count} admissions of unapproved devices")
    if count := record.took(Kind.WRONGLY_REFUSED):
        label = "of approved devices" if plan.approved else 'other than "pairing required"'
        found.append(f"{count} refusals {label}")
    right = sum(phase.tally.right for phase in record.phases if phase.counted)
    if not right:
        found.append(
            f"no device was {'admitted' if plan.approved else 'refused'}: nothing was measured"
        )
    if run.lost:
        found.append(f"{run.lost} connections ended unexpectedly")
    opened = record.phases[0].tally.of(Kind.ADMITTED)
    if plan.connections and opened < plan.connections:
        found.append(f"{plan.connections - opened} of {plan.connections} connections did not open")
    if plan.scenario is Scenario.STORM:
        found += _storm(run, opened)
    if plan.scenario is Scenario.REVOKE:
        found += _revoke(run, opened)
    if plan.scenario is Scenario.SOAK:
        found += _soak(plan, run)
    return found


def _storm(run: Run, opened: int) -> list[str]:
    if run.dropped is None:
        return ["the connections were not dropped: there was no storm"]
    missing = opened - run.held
    return [f"{missing} connections did not come back"] if missing > 0 else []


def _revoke(run: Run, opened: int) -> list[str]:
    ended = run.recording.ended[run.lost :]
    found = []
    if left := opened - run.lost - len(ended):
        found.append(f"{left} connections of revoked devices stayed open")
    if wrong := sum(item.code != CloseCode.DEVICE_REMOVED for item in ended):
        found.append(f"{wrong} were not closed with code {CloseCode.DEVICE_REMOVED.value}")
    return found


def _soak(plan: Plan, run: Run) -> list[str]:
    found = [
        f"{remain.left} {remain.what} of {remain.role} are left over"
        for remain in run.remains
        if remain.left
    ]
    found += [
        f"{remain.what} of {remain.role} could no longer be observed after the load"
        for remain in run.remains
        if remain.after is None
    ]
    if plan.phases[-1].seconds >= GROWTH_SECONDS:
        found += [
            f"memory of {use.role} grew by {use.rss_growth_percent:.1f} % since the first minute, "
            f"but must stay below {GROWTH_PERCENT:g} %"
            for use in server_uses(run.watch, run.recording.phases[-1])
            if use.role in SERVICES and use.rss_growth_percent >= GROWTH_PERCENT
        ]
    return found
