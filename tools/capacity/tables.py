"""The tables that docs/capacity.md quotes, as text. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from tools.capacity.sizing import (
    SIZES,
    SPREAD_SECONDS,
    limit_of_one_redis,
    rate_of_one_core,
    size,
)
from tools.capacity.storms import FIRST_WAIT_SECONDS, stretch_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tools.capacity.costs import Costs
    from tools.capacity.sizing import Size
    from tools.capacity.storms import Storm

NOT_ALL: Final = "not all"
_Cells = tuple[tuple[str, "Callable[[Size], str]"], ...]
_SIZE_ROWS: Final[_Cells] = (
    ("gateways", lambda item: f"{item.gateways}"),
    ("approvals", lambda item: f"{item.approvals}"),
    ("memory of a gateway for connections", lambda item: f"{item.gateway_mb:.0f} MB"),
    ("Redis: memory of the records", lambda item: f"{item.redis_mb:.0f} MB"),
    ("Redis: its one core at rest", lambda item: f"{item.redis_rest:.0%}"),
    ("Redis: events sent, kB a second", lambda item: f"{item.news_kb_a_second:.1f}"),
    ("domains at Railway's edge", lambda item: f"{item.domains}"),
)
_DROP_ROWS: Final[_Cells] = (
    ("  admissions a second", lambda item: f"{item.drop_rate:,.0f}"),
    ("  limited by", lambda item: item.drop_limit),
    ("  work", lambda item: f"{item.work_seconds:.1f} s"),
)
_STORM_COLUMNS: Final[tuple[tuple[str, int, Callable[[Storm], str]], ...]] = (
    ("devices", 7, lambda storm: f"{storm.devices:,}"),
    ("gateways", 8, lambda storm: f"{storm.gateways}"),
    ("a second", 8, lambda storm: f"{storm.rate:,.0f}"),
    ("work", 6, lambda storm: _seconds(storm.work_seconds)),
    ("50 %", 6, lambda storm: _seconds(storm.half_seconds)),
    ("99 %", 6, lambda storm: _seconds(storm.most_seconds)),
    ("all", 7, lambda storm: _seconds(storm.all_seconds)),
    ("all/work", 8, lambda storm: NOT_ALL if storm.ratio is None else f"{storm.ratio:.2f}"),
    ("attempts", 8, lambda storm: f"{storm.attempts:.2f}"),
    (
        "health",
        6,
        lambda storm: "failed" if math.isinf(storm.health_p99) else f"{storm.health_p99:.2f}",
    ),
    ("memory", 6, lambda storm: f"{storm.gateway_mb:.0f} MB"),
    ("lost", 7, lambda storm: f"{storm.lost} of {storm.sessions}"),
    ("late", 6, lambda storm: _seconds(storm.clients_late)),
)


def sizes_table(costs: Costs, storms: Sequence[Storm]) -> str:
    """Return the resources that each size requires, and how long its storm takes."""
    sizes = [size(devices, costs) for devices in SIZES]
    spread = (f"{item.devices / SPREAD_SECONDS:,.0f}/s" for item in sizes)
    lines = [
        _row("connected devices", *(f"{devices:,}" for devices in SIZES)),
        *(_row(name, *map(render, sizes)) for name, render in _SIZE_ROWS),
        _row(f"closed and back over {SPREAD_SECONDS:.0f} s", *spread),
        _row("  Redis: its one core", *(f"{item.redis_spread:.0%}" for item in sizes)),
        f"  one Redis is enough up to {limit_of_one_redis(costs):,} devices",
        "dropped at once",
        *(_row(name, *map(render, sizes)) for name, render in _DROP_ROWS),
    ]
    lines.append(_row("  all back after", *(_back(item, storms) for item in sizes)))
    return "\n".join(lines)


def storms_table(storms: Sequence[Storm], costs: Costs) -> str:
    """Return the measured storms, one row each, and what applies to all of them."""
    names = "  ".join(f"{name:>{width}}" for name, width, _ in _STORM_COLUMNS)
    rows = (
        "  ".join(f"{render(storm):>{width}}" for _, width, render in _STORM_COLUMNS)
        for storm in storms
    )
    predicted = f"From the costs, one core admits {rate_of_one_core(costs):,.0f} a second."
    if not storms:
        return f"{names}\n{predicted}"
    others = max(storm.others_cores for storm in storms)
    busy = f"Other programs used up to {others:.2f} cores."
    return "\n".join([names, *rows, predicted, busy])


def _back(item: Size, storms: Sequence[Storm]) -> str:
    stretch = stretch_for(item.work_seconds, storms)
    return "-" if stretch is None else _seconds(FIRST_WAIT_SECONDS + stretch * item.work_seconds)


def _row(name: str, *cells: str) -> str:
    return f"{name:36}" + "".join(f"{cell:>12}" for cell in cells)


def _seconds(seconds: float | None) -> str:
    return NOT_ALL if seconds is None else f"{seconds:.1f} s"
