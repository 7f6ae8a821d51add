"""A fault: its name, how it is done, what is promised."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.drills.house import House
    from tools.drills.scene import Scene


class Hits(Enum):
    """Whose sessions may end; all others are kept."""

    NOBODY = "nobody"
    TARGET = "those of the target"
    EVERYBODY = "everybody"


class Back(Enum):
    """From when on the time until admissions succeed again counts."""

    FROM_BEGIN = "its begin"
    FROM_END = "its end"


Do = Callable[["Scene", str], Awaitable[None]]
Arrange = Callable[["House"], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What holds beyond what always holds."""

    hits: Hits = Hits.NOBODY
    within_lease: bool = False
    """Whoever is hit is closed within the lease."""
    back: Back = Back.FROM_BEGIN
    forgets: bool = False
    """The fault is that approvals are lost: the drill gives them anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One row of the table. `cases` names whom it is done to, one after the other.

    `before` and `after` arrange what is no part of the fault itself.
    """

    name: str
    do: Do
    promise: Promise
    cases: tuple[str, ...] = ("",)
    harms_redis: bool = False
    """Redis itself does not answer, on purpose."""
    before: Arrange | None = None
    after: Arrange | None = None
