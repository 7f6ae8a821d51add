"""Line plots as SVG, drawn here so that the page has no dependencies. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH: Final = 960
NARROW_WIDTH: Final = 420
"""For phones: text of the same size in a narrower plot."""
HEIGHT: Final = 260
LEFT: Final = 64
RIGHT: Final = 24
TOP: Final = 12
BOTTOM: Final = 30
TICKS: Final = 5
_STEPS: Final = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True, slots=True)
class Line:
    """A named line; `kind` selects its colour, a to f."""

    name: str
    points: Sequence[tuple[float, float]]
    kind: str


@dataclass(frozen=True, slots=True)
class Scale:
    """A horizontal scale with its own labels; `nines`: 0.9, 0.99, 0.999 are equidistant."""

    labels: Sequence[tuple[float, str]]
    nines: bool = False


@dataclass(frozen=True, slots=True)
class Unit:
    """The unit of the vertical scale."""

    text: str


def plot(
    lines: Sequence[Line],
    *,
    title: str,
    x: Scale | None = None,
    y: Unit | None = None,
    gap: float = math.inf,
    width: int = WIDTH,
) -> str:
    """Return an SVG of lines over a common scale from 0; needs at least one point.

    A line is interrupted where it has no point for more than `gap`.
    """
    tops = nice_ticks(max(value for line in lines for _, value in line.points))
    nines = x is not None and x.nines
    far = [_place(at, nines=nines) for line in lines for at, _ in line.points]
    first, last = (0.0, max(far)) if nines else (min(0.0, *far), max(far))
    labels = (
        [(_place(at, nines=True), text) for at, text in x.labels]
        if x is not None and nines
        else [(at, _number(at)) for at in nice_ticks(last)]
    )

    def across(place: float) -> float:
        return LEFT + (place - first) / ((last - first) or 1) * (width - LEFT - RIGHT)

    def up(value: float) -> float:
        return HEIGHT - BOTTOM - value / tops[-1] * (HEIGHT - TOP - BOTTOM)

    unit = y.text if y is not None else ""
    parts = [
        f'<svg viewBox="0 0 {width} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        *(
            f'<line class="grid" x1="{LEFT}" x2="{width - RIGHT}" y1="{up(tick):.1f}" '
            f'y2="{up(tick):.1f}"/><text x="{LEFT - 8}" y="{up(tick) + 4:.1f}" '
            f'text-anchor="end">{_number(tick)}{unit}</text>'
            for tick in tops
        ),
        *(
            f'<text x="{across(place):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{text}</text>'
            for place, text in labels
            if first <= place <= last
        ),
    ]
    for line in lines:
        path = ""
        before = -math.inf
        for at, value in line.points:
            move = "L" if at - before <= gap and path else "M"
            path += f"{move}{across(_place(at, nines=nines)):.1f},{up(value):.1f}"
            before = at
        parts.append(f'<path class="line {line.kind}" d="{path}"/>')
    return "".join([*parts, "</svg>"])


def nice_ticks(maximum: float) -> list[float]:
    """Return 0 and a few round numbers, the last one at least the given maximum."""
    if maximum <= 0:
        return [0.0, 1.0]
    rough = maximum / TICKS
    power = 10 ** math.floor(math.log10(rough))
    step = next(step * power for step in _STEPS if step * power >= rough * (1 - 1e-9))
    return [step * n for n in range(math.ceil(maximum / step - 1e-9) + 1)]


def _place(at: float, *, nines: bool) -> float:
    """Return the position of a value on the scale; shares are below 1."""
    return -math.log10(1 - at) if nines else at


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:g}"
