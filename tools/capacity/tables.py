"""The tables that docs/results/capacity.md quotes, as text. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tools.capacity.sizing import AT_ONCE_SECONDS, SIZES, SPREAD_SECONDS, limit_of_one_redis, size
from tools.capacity.storm import END_SECONDS, PLANS, storm

if TYPE_CHECKING:
    from collections.abc import Callable

    from tools.capacity.costs import Costs
    from tools.capacity.sizing import Size

CLIENTS: Final = 2_000
"""Clients of a simulated storm; its course depends on the server's rate, not on this."""
WORTH_SECONDS: Final = (2.0, 5.0, 20.0, 60.0)
"""Storms by the time the server would need for all clients, one after the other."""
CHEAP_REFUSAL: Final = 0.1
_STORM_ROWS: Final[tuple[tuple[str, Callable[[Size], str]], ...]] = (
    ("gateways", lambda item: f"{item.gateways}"),
    ("approvals", lambda item: f"{item.approvals}"),
    ("Redis: its one core", lambda item: f"{item.redis_storm:.0%}"),
)
_ROWS: Final[tuple[tuple[str, Callable[[Size], str]], ...]] = (
    ("memory of each, for connections", lambda item: f"{item.gateway_mb:.0f} MB"),
    ("Redis: its one core at rest", lambda item: f"{item.redis_rest:.0%}"),
    ("Redis: memory of the records", lambda item: f"{item.redis_mb:.0f} MB"),
    ("Redis: events sent, kB a second", lambda item: f"{item.news_kb_a_second:.1f}"),
    ("domains at Railway's edge", lambda item: f"{item.domains}"),
)


def sizes_table(costs: Costs) -> str:
    """Return the resources that each size requires."""
    lines = [_row("connected devices", *(f"{devices:,}" for devices in SIZES))]
    for mode, seconds in (("closed spread", SPREAD_SECONDS), ("dropped at once", AT_ONCE_SECONDS)):
        sizes = [size(devices, costs, seconds) for devices in SIZES]
        rates = (f"{item.devices / seconds:,.0f}/s" for item in sizes)
        lines.append(_row(f"{mode}, all back in {seconds:.0f} s", *rates))
        lines += [_row(f"  {name}", *map(render, sizes)) for name, render in _STORM_ROWS]
        maximum = limit_of_one_redis(costs, seconds)
        lines.append(f"  one Redis is enough up to {maximum:,} devices")
    sizes = [size(devices, costs) for devices in SIZES]
    return "\n".join([*lines, *(_row(name, *map(render, sizes)) for name, render in _ROWS)])


def storms_table(costs: Costs) -> str:
    """Return the course of storms, by the clients' back-off and the cost of a refusal."""
    lines = []
    for refusal in (costs.refusal, CHEAP_REFUSAL):
        lines.append(f"A refusal costs {refusal:.0%} of an admission. Seconds until 50, 99, 100 %")
        lines.append("are back; attempts per client, mean and maximum; work spent on refusals:")
        for worth in WORTH_SECONDS:
            for plan in PLANS:
                end = storm(plan, clients=CLIENTS, per_second=CLIENTS / worth, refusal=refusal)
                when = " ".join(f"{_seconds(at):>5}" for at in (end.half, end.most, end.everybody))
                tries = f"{end.tries_mean:6.1f} {end.tries_maximum:4}"
                lines.append(f"{worth:3.0f} s  {plan.name:37} {when}  {tries}  {end.wasted:4.0%}")
    lines.append(f"-: not within {END_SECONDS:.0f} s")
    return "\n".join(lines)


def _row(name: str, *cells: str) -> str:
    return f"{name:36}" + "".join(f"{cell:>12}" for cell in cells)


def _seconds(at: float | None) -> str:
    return "-" if at is None else f"{at:.1f}"
