"""What the servers used, from samples of their processes: by role, per phase and in total."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from tools.load.recording import PhaseRecord
    from tools.load.server.processes import Sample, Watch

SETTLED_SECONDS: Final = 60.0
"""Growth is measured after this long, or after a fifth of a shorter run."""
_EDGE: Final = 0.05


class ServerUse(msgspec.Struct, rename="camel", omit_defaults=True):
    """What the processes of one role used in a phase.

    `cpu_us_each` is CPU in microseconds per correct decision, `busy` the share of a core,
    `bytes_per_connection` the growth of resident memory since the run began per connection held.
    """

    role: str
    busy: float
    cpu_us_each: float | None
    rss_bytes: int
    rss_growth_bytes: int
    rss_growth_percent: float
    descriptors: int
    descriptors_growth: int
    threads: int
    bytes_per_connection: float | None = None


class ServerPoint(msgspec.Struct, rename="camel"):
    """State of one role's processes at a time, in seconds from the start."""

    role: str
    at: float
    busy: float
    rss_bytes: int
    descriptors: int
    threads: int


def server_uses(watch: Watch, phase: PhaseRecord, *, held: int = 0) -> list[ServerUse]:
    """Return what each role used in a phase; empty if not visible.

    With `held` connections, includes the memory of each.
    """
    found: dict[str, ServerUse] = {}
    for item in watch.watched:
        samples = _within(watch.samples[item.pid], phase.begin, phase.end)
        if len(samples) < 2:
            continue
        first, last = samples[0], samples[-1]
        settled = _settled(samples)
        start = watch.samples[item.pid][0]
        use = found.setdefault(item.role, ServerUse(item.role, 0.0, None, 0, 0, 0.0, 0, 0, 0))
        cpu = last.cpu_seconds - first.cpu_seconds
        use.busy += cpu / (last.at - first.at)
        if phase.verdicts:
            use.cpu_us_each = (use.cpu_us_each or 0.0) + cpu / phase.verdicts * 1e6
        use.rss_bytes += last.rss_bytes
        use.rss_growth_bytes += last.rss_bytes - settled.rss_bytes
        use.rss_growth_percent = _percent(use.rss_growth_bytes, use.rss_bytes)
        use.descriptors += last.descriptors
        use.descriptors_growth += last.descriptors - settled.descriptors
        use.threads += last.threads
        if held:
            grown = (last.rss_bytes - start.rss_bytes) / held
            use.bytes_per_connection = (use.bytes_per_connection or 0.0) + grown
    return list(found.values())


def server_points(watch: Watch, begin: float) -> list[ServerPoint]:
    """Return the state of each role over the run."""
    found: dict[tuple[str, float], ServerPoint] = {}
    for item in watch.watched:
        samples = watch.samples[item.pid]
        for before, now in pairwise(samples):
            if now.at - before.at < _EDGE:
                continue
            point = found.setdefault(
                (item.role, now.at), ServerPoint(item.role, now.at - begin, 0.0, 0, 0, 0)
            )
            point.busy += (now.cpu_seconds - before.cpu_seconds) / (now.at - before.at)
            point.rss_bytes += now.rss_bytes
            point.descriptors += now.descriptors
            point.threads += now.threads
    return list(found.values())


def _percent(growth: int, now: int) -> float:
    """Return growth in per cent of the earlier value."""
    return 100 * growth / before if (before := now - growth) else 0.0


def _within(samples: list[Sample], begin: float, end: float) -> list[Sample]:
    return [sample for sample in samples if begin <= sample.at <= end]


def _settled(samples: list[Sample]) -> Sample:
    length = samples[-1].at - samples[0].at
    since = samples[0].at + min(SETTLED_SECONDS, length / 5)
    return next(sample for sample in samples if sample.at >= since)
