"""Compares what was observed around an attack with the promises. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tools.drills.attacks.observed import Observed, Sample

HEALTH_SECONDS: Final = 0.5
"""99 % of health checks are answered within this."""
CALL_SECONDS: Final = 1.0
"""99 % of an admitted session's calls are answered within this."""
NEWCOMER_SECONDS: Final = 10.0
"""How long a newcomer tries."""
NEWCOMERS_RATIO: Final = 0.95
MEMORY_BYTES: Final = 256_000_000
"""Memory of a process over what it used before."""
RECOVERY_SECONDS: Final = 5.0
GOODPUT_RATIO: Final = 0.9
BACK_RATIO: Final = 1.3
STILL_SECONDS: Final = 1.0
"""A bad answer to one of the last requests means that nothing has recovered."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The figures of one attack, and the promises that were broken.

    Times in seconds: infinite if requests failed, None if nothing was measured.
    """

    health_p99: float | None
    call_p99: float | None
    sessions: int
    lost: int
    gateway_bytes: int
    approval_bytes: int
    newcomers: int
    served: int
    at_once: int
    """How many newcomers were served at their first attempt."""
    recovery: float | None
    """None: not recovered while it was observed."""
    goodput_ratio: float | None
    offered_ratio: float | None
    back_ratio: float | None
    violations: tuple[str, ...]


def judge(seen: Observed) -> Verdict:
    """Return the figures and what they violate."""
    during = [sample for sample in seen.newcomers if _within(seen, sample)]
    served = sum(not sample.why for sample in during)
    storm = seen.storm
    verdict = Verdict(
        health_p99=p99(sample.seconds for sample in seen.health if _within(seen, sample)),
        call_p99=p99(sample.seconds for sample in seen.calls if _within(seen, sample)),
        sessions=seen.sessions,
        lost=seen.lost,
        gateway_bytes=seen.gateway_bytes,
        approval_bytes=seen.approval_bytes,
        newcomers=len(during),
        served=served,
        at_once=sum(not sample.why and sample.attempts == 1 for sample in during),
        recovery=recovery(seen),
        goodput_ratio=storm.goodput_ratio if storm else None,
        offered_ratio=storm.offered_ratio if storm else None,
        back_ratio=storm.back_ratio if storm else None,
        violations=(),
    )
    return _with_violations(seen, verdict)


def p99(seconds: Iterable[float]) -> float | None:
    """Return the 99th percentile (nearest rank); None if there are none."""
    ordered = sorted(seconds)
    return ordered[math.ceil(len(ordered) * 0.99) - 1] if ordered else None


def recovery(seen: Observed) -> float | None:
    """Return how long after the attack a request could still begin that was answered badly.

    None if that was so until the end of the observation.
    """
    last = seen.over
    for samples, limit in (
        (seen.health, HEALTH_SECONDS),
        (seen.calls, CALL_SECONDS),
        (seen.newcomers, NEWCOMER_SECONDS),
    ):
        bad = [
            sample.began
            for sample in samples
            if sample.began > seen.over and sample.seconds > limit
        ]
        if bad and max(bad) > seen.until - limit - STILL_SECONDS:
            return None
        last = max([last, *bad])
    return last - seen.over


def _within(seen: Observed, sample: Sample) -> bool:
    return seen.began <= sample.began <= seen.over


def _with_violations(seen: Observed, verdict: Verdict) -> Verdict:
    found: list[str] = []
    if seen.broken:
        found.append(f"the attack was aborted: {seen.broken}")
    if verdict.lost:
        found.append(f"{verdict.lost} of {verdict.sessions} sessions were lost")
    _too_slow(found, "health checks", verdict.health_p99, HEALTH_SECONDS)
    _too_slow(found, "calls of sessions", verdict.call_p99, CALL_SECONDS)
    for name, used in (
        ("a gateway", verdict.gateway_bytes),
        ("approval", verdict.approval_bytes),
    ):
        if used > MEMORY_BYTES:
            found.append(f"{name} used {used / 1e6:.0f} MB more than before")
    if seen.serves_newcomers and verdict.served < NEWCOMERS_RATIO * max(1, verdict.newcomers):
        found.append(f"{verdict.served} of {verdict.newcomers} newcomers were served")
    if verdict.recovery is None:
        found.append(f"not recovered {seen.until - seen.over:.0f} s after the attack")
    elif verdict.recovery > RECOVERY_SECONDS:
        found.append(f"recovered after {verdict.recovery:.1f} s")
    if seen.storm is not None:
        found += _storm_violations(seen, verdict)
    return replace(verdict, violations=tuple(found))


def _storm_violations(seen: Observed, verdict: Verdict) -> list[str]:
    storm = seen.storm
    assert storm is not None
    if storm.dropped:
        if storm.back_seconds is None:
            return [f"{storm.completed} of {storm.offered} devices came back"]
        if verdict.back_ratio is not None and verdict.back_ratio > BACK_RATIO:
            return [f"all devices were back after {verdict.back_ratio:.2f} times the work"]
    elif verdict.goodput_ratio is None or verdict.goodput_ratio < GOODPUT_RATIO:
        return [f"goodput was {verdict.goodput_ratio or 0:.2f} of the closed-loop rate"]
    return []


def _too_slow(found: list[str], what: str, seconds: float | None, limit: float) -> None:
    if seconds is None:
        found.append(f"no {what} were measured")
    elif seconds > limit:
        found.append(f"the p99 of {what} was {shown_seconds(seconds)}, not {limit:g} s")


def shown_seconds(seconds: float) -> str:
    """Return seconds as readable text."""
    return "no answer" if math.isinf(seconds) else f"{seconds:.2f} s"
