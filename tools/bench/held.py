"""Measurements of connections that are held: their memory, and their revocation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tools.bench.measuring import paired, reported
from tools.bench.table import plain_table
from tools.load.plan import Plan, Scenario

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.bench.subjects import Subject

KILO: Final = 1024


def idle(subjects: Sequence[Subject], connections: int, seconds: float, workers: int) -> str:
    """Measure memory and CPU of idle connections."""
    rows = []
    for subject in subjects:
        plan = Plan(
            scenario=Scenario.IDLE, connections=connections, seconds=seconds, workers=workers
        )
        report = reported(subject, plan)
        for use in report.phases[-1].servers:
            if use.role in {"bare", "gateway"}:
                each = (use.bytes_per_connection or 0.0) / KILO
                opened = f"{report.phases[0].latency_ms.count:,}"
                wrong = ", ".join(report.findings)
                rows.append((subject.name, opened, f"{each:.1f}", f"{use.busy:.1%}", wrong))
    heads = ("", "connections", "KB each", "CPU, share of a core", "")
    return plain_table(f"{connections:,} idle connections, {seconds:g} s", heads, rows)


def revoke(subject: Subject, connections: int, workers: int) -> str:
    """Measure the time until all connections of a revoked device are closed."""
    plan = Plan(scenario=Scenario.REVOKE, connections=connections, devices=1, workers=workers)
    report = reported(subject, plan, paired(subject, 1))
    moments = report.moments
    closes = ", ".join(f"{row.count:,} with {row.close_code}" for row in moments.closes)
    row = (
        f"{report.phases[0].latency_ms.count:,}",
        f"{moments.first_closed or 0:.0f}",
        f"{moments.last_closed or 0:.0f}",
        closes + "".join(f"; {finding}" for finding in report.findings),
    )
    heads = ("connections", "first closed, ms", "last closed, ms", "close codes")
    return plain_table("Revoking the device of all connections", heads, [row])
