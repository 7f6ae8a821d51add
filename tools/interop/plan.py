"""Input and output of a part of the run."""

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
    """Number of rounds, data directory, and where to record the frames that clients get.

    `picture` and `chat_picture`: where to write screenshots of the dashboard, if anywhere: of its
    device page, and of a chat through the relay.
    """

    rounds: int
    data: Path
    heard: list[Heard]
    picture: Path | None = None
    chat_picture: Path | None = None
    relay_groups: tuple[str, ...] = ()
    """Which groups of the relay's cases to run; all if empty."""


@dataclass(frozen=True, slots=True)
class Report:
    """The rows of a part, and additional results."""

    rows: list[Row]
    notes: list[str] = field(default_factory=list)


Part = Callable[[Plan], Awaitable[Report]]
