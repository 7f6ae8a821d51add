"""What a part of the run is given, and what it hands back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tools.interop.cases import Row
    from tools.interop.wiretap import Heard


@dataclass(frozen=True, slots=True)
class Plan:
    """How often each case is told, where data goes, and where the frames go that clients get.

    `picture`: where to write a screenshot of the dashboard, if anywhere.
    """

    rounds: int
    data: Path
    heard: list[Heard]
    picture: Path | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The rows of a part, and what else it found worth a line."""

    rows: list[Row]
    notes: list[str] = field(default_factory=list)


Part = Callable[[Plan], Awaitable[Report]]
