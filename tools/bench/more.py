"""Additional measurements of `--more`: idle connections, their revocation, two gateways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tools.bench.measuring import closed, measure, paired, reported
from tools.bench.table import plain_table, ratio, spread
from tools.load.plan import Plan, Scenario

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.bench.measuring import Figures
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


def gateways(
    item: Subject, two: Subject, in_flight: int, *, rounds: int, seconds: float, workers: int
) -> str:
    """Compare the CPU per admission with one gateway and with two, on the same core."""
    plan = closed(Scenario.CLOSED, seconds, in_flight, workers=max(2, workers))
    found: dict[str, list[Figures]] = {"one gateway": [], "two gateways": []}
    for _ in range(rounds):
        for name, subject in zip(found, (item, two), strict=True):
            found[name].append(measure(subject, plan))
    rows = [
        (name, spread([figures.cpu_us for figures in each], "{:,.0f}"))
        for name, each in found.items()
    ]
    first, second = found.values()
    rows.append(("ratio", ratio(first, second, lambda figures: figures.cpu_us)))
    return plain_table(f"Two gateways, {in_flight} in flight", ("", "CPU µs each"), rows)
