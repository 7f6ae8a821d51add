"""A fault: its name, its implementation and its promises."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.drills.fault_context import FaultContext
    from tools.drills.stack.stack import DrillStack


class Hits(Enum):
    """Whose sessions may end; all others must be kept."""

    NOBODY = "nobody"
    TARGET = "those of the target"
    EVERYBODY = "everybody"


class Back(Enum):
    """Start of the time until admissions succeed again."""

    FROM_BEGIN = "its begin"
    FROM_END = "its end"


Do = Callable[["FaultContext", str], Awaitable[None]]
Arrange = Callable[["DrillStack"], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """The promises beyond those that always apply."""

    hits: Hits = Hits.NOBODY
    within_lease: bool = False
    """The affected sessions are closed within the lease."""
    back: Back = Back.FROM_BEGIN
    codes: frozenset[int] = frozenset()
    """Close codes that the affected sessions may get; empty: any."""
    forgets: bool = False
    """The fault loses approvals, which the drill then repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One row of the table. `cases` names the targets, one after the other.

    `before` and `after` make preparations that are not part of the fault itself.
    """

    name: str
    do: Do
    promise: Promise
    cases: tuple[str, ...] = ("",)
    relayed: bool = False
    """Sessions are relayed to an upstream."""
    harms_redis: bool = False
    """Redis itself does not respond, on purpose."""
    before: Arrange | None = None
    after: Arrange | None = None
