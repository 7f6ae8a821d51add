"""The report as text for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tools.load.report.report import Latency, Moments, PhaseReport, Report, Row
    from tools.load.server.leftovers import Leftover
    from tools.load.server.servers import ServerUse


GROWING: Final = frozenset({"soak", "idle"})
"""Scenarios for which the growth of the servers matters."""

_PLAN: Final = {
    "connections": ("connections", ""),
    "seconds": ("held for", " s"),
    "in_flight": ("in flight", ""),
    "drop": ("ended by", ""),
    "jitter": ("back within", " s"),
    "pace": ("at most a second", ""),
    "devices": ("devices", ""),
    "workers": ("workers", ""),
    "sources": ("source addresses", ""),
    "timeout": ("timeout", " s"),
    "shared_token": ("token", ""),
}
"""The parts of a plan that are shown: name and unit."""


def as_text(report: Report) -> str:
    """Return the whole report."""
    lines = [f"{report.scenario} on {report.target}, {report.at}"]
    grows = report.scenario in GROWING
    for phase in report.phases:
        lines += ["", *_phase(phase, grows=grows and phase is report.phases[-1])]
    if moments := _moments(report):
        lines += ["", *moments]
    if left := left_of(report.left_over):
        lines += ["", f"left over: {', '.join(f'{count} {label}' for count, label in left)}"]
    load = ", ".join(f"{worker.busy:.0%} of a core" for worker in report.workers)
    late = max((worker.late_ms for worker in report.workers), default=0.0)
    lines += ["", f"load    {load}; no start later than {late:.1f} ms"]
    lines += [f"note    {note}" for note in report.notes]
    if report.machine_busy:
        lines.append(f"BUSY    {report.machine_busy}")
    lines += [f"WRONG   {finding}" for finding in report.findings]
    if not report.findings:
        lines.append("fine    every device was admitted or refused correctly")
    return "\n".join(lines)


def _phase(phase: PhaseReport, *, grows: bool) -> list[str]:
    latency = phase.latency_ms
    head = f"{phase.name}, {phase.seconds:.1f} s"
    if not phase.counted:
        return [f"{head}, not counted", *_outcomes(phase.outcomes)]
    lines = [head]
    if latency.count:
        lines.append(f"  rate      {phase.per_second:.0f}/s, {latency.count} in all")
        lines.append(f"  latency   {_latency(latency)}")
    if delay := phase.start_delay_ms:
        lines.append(
            f"  starts    late by p50 {delay.p50:.2f}, p99 {delay.p99:.2f}, max {delay.max:.1f} ms"
        )
    lines += _outcomes(phase.outcomes)
    lines += [f"  {use.role:<9s} {server_text(use, grows=grows)}" for use in phase.servers]
    return lines


def _latency(latency: Latency) -> str:
    return (
        f"p50 {latency.p50:.1f}, p90 {latency.p90:.1f}, p99 {latency.p99:.1f}, "
        f"p99.9 {latency.p999:.1f}, max {latency.max:.1f} ms"
    )


def _outcomes(rows: list[Row]) -> list[str]:
    return [f"  {row.count:<9d} {describe(row)}" for row in rows]


def describe(row: Row) -> str:
    """Describe attempts with the same result."""
    close = f"{row.close_code} {row.close_reason}".strip() if row.close_code else ""
    return ", ".join(part for part in (row.kind, row.what, close) if part)


def server_text(use: ServerUse, *, grows: bool) -> str:
    """Describe what the processes of one role used, with their growth if it matters."""
    parts = [f"{use.busy:.0%} of a core"]
    if use.cpu_us_each is not None:
        parts.append(f"{use.cpu_us_each:.0f} us CPU each")
    grown = f"{use.rss_growth_bytes / 2**20:+.1f} MB, {use.rss_growth_percent:+.1f} %"
    parts.append(f"{use.rss_bytes / 2**20:.0f} MB{f' ({grown} since it settled)' if grows else ''}")
    if use.bytes_per_connection is not None:
        parts.append(f"{use.bytes_per_connection / 1024:.1f} KB a connection")
    grown = f" ({use.descriptors_growth:+d})" if grows else ""
    parts.append(f"{use.descriptors} descriptors{grown}")
    parts.append(f"{use.threads} threads")
    return ", ".join(parts)


def plan_in_words(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the plan as names and values, without irrelevant parts."""
    held = bool(plan.get("connections"))
    found = []
    for key, (name, unit) in _PLAN.items():
        value = plan.get(key)
        if not value or (key == "drop" and not held):
            continue
        value_text = "the gateway's own" if key == "shared_token" else f"{_number(value)}{unit}"
        found.append((name, value_text))
    for phase in plan.get("phases", ()):
        rate = f" at {_number(phase['rate'])} a second" if phase["rate"] else ""
        found.append((phase["name"], f"{_number(phase['seconds'])} s{rate}"))
    return found


def _number(value: Any) -> str:
    return f"{value:,g}" if isinstance(value, float) else str(value)


def left_of(remains: Sequence[Leftover]) -> list[tuple[int, str]]:
    """Return how many of each are left over, over all roles."""
    found: dict[str, int] = {}
    for remain in remains:
        found[remain.what] = found.get(remain.what, 0) + remain.left
    return [(count, label) for label, count in found.items()]


def moments_of(moments: Moments) -> list[tuple[str, str]]:
    """Return the moments of a storm or a revocation: milliseconds and description."""
    named = (
        (moments.back50, "half were back"),
        (moments.back99, "99 % were back"),
        (moments.back100, "all were back"),
        (moments.first_closed, "the first was closed"),
        (moments.last_closed, "the last was closed"),
        (moments.last_closed_after_its_call, "longest from a call to its closes"),
    )
    return [(f"{ms:,.0f} ms", label) for ms, label in named if ms is not None]


def _moments(report: Report) -> list[str]:
    found = [f"{label:<34}{ms}" for ms, label in moments_of(report.moments)]
    return [*found, *(f"  {row.count:<9d} {describe(row)}" for row in report.moments.closes)]
