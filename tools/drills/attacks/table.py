"""The table of attacks: one row each."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.drills.attacks.judge import Verdict

HEADINGS: Final = (
    "attack",
    "health p99",
    "call p99",
    "sessions lost",
    "memory: gateway, approval",
    "newcomers served (at once)",
    "recovered after",
    "storm",
    "held",
)
LEGEND: Final = """\
Times in seconds. Health: /livez and /readyz of a gateway and of approval, on new connections. Call: a
method of admitted sessions. Memory: the most of a process over what it used before, in MB. Newcomers:
paired and new devices from other addresses, served within 10 s, and at their first attempt. Recovered:
from the end of the attack to the last request that was answered badly. Storm: goodput relative to the closed-loop
rate, at what was offered relative to it; or the time until all are back, relative to the work."""
NOTHING: Final = "-"


def table(rows: Sequence[tuple[str, Verdict]]) -> str:
    """Return the rows below the headings, as Markdown."""
    lines = [HEADINGS, *(cells(name, verdict) for name, verdict in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(HEADINGS))]
    ruler = tuple("-" * width for width in widths)
    return "\n".join(_line(line, widths) for line in (lines[0], ruler, *lines[1:]))


def cells(name: str, verdict: Verdict) -> tuple[str, ...]:
    """Return the cells of a row."""
    return (
        name,
        _seconds(verdict.health_p99),
        _seconds(verdict.call_p99),
        f"{verdict.lost} of {verdict.sessions}",
        f"{verdict.gateway_bytes / 1e6:.0f}, {verdict.approval_bytes / 1e6:.0f}",
        _newcomers(verdict),
        "not" if verdict.recovery is None else f"{verdict.recovery:.1f}",
        _storm(verdict),
        "NO" if verdict.violations else "yes",
    )


def _newcomers(verdict: Verdict) -> str:
    if not verdict.newcomers:
        return NOTHING
    served, at_once = (
        f"{100 * number / verdict.newcomers:.0f} %" for number in (verdict.served, verdict.at_once)
    )
    return f"{served} ({at_once})"


def _storm(verdict: Verdict) -> str:
    if verdict.goodput_ratio is not None:
        return f"{verdict.goodput_ratio:.2f} at {verdict.offered_ratio or 0:.1f} x"
    if verdict.back_ratio is not None:
        return "not all" if math.isinf(verdict.back_ratio) else f"{verdict.back_ratio:.2f} x"
    return NOTHING


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return NOTHING
    return "no answer" if math.isinf(seconds) else f"{seconds:.2f}"


def _line(line: Sequence[str], widths: Sequence[int]) -> str:
    padded = (f"{cell:{width}}" for cell, width in zip(line, widths, strict=True))
    return f"| {' | '.join(padded)} |"
