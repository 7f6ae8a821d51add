"""Which server is the primary, from what several sentinels say. Pure.

Each failover has a number, the configuration epoch. A sentinel that was cut off, or that has just
returned, may still name the old primary, but with a lower epoch.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.redis.address import Place


@dataclass(frozen=True, slots=True)
class Named:
    """A primary that a sentinel names, and the epoch at which it was chosen."""

    place: Place
    epoch: int


@dataclass(frozen=True, slots=True)
class Silent:
    """A sentinel that named no primary: it does not answer, or cannot say.

    `always` means that waiting does not help, as with an unknown service.
    """

    why: str
    always: bool = False


View = Named | Silent | None
"""What one sentinel said last; None if it has not been asked yet."""


def majority(sentinels: int) -> int:
    """Return how many sentinels have to agree on a failover."""
    return sentinels // 2 + 1


def choose(views: Sequence[View], known: Named | None) -> Named | None:
    """Return the primary to use; `known` if nobody names a newer one.

    The highest epoch counts, whoever says it. A lower one than the known epoch counts only if most
    sentinels say so, as after they were set up anew.
    """
    named = [view for view in views if isinstance(view, Named)]
    if not named:
        return known
    epoch = max(view.epoch for view in named)
    if known is not None and epoch < known.epoch and len(named) < majority(len(views)):
        return known
    places = Counter(view.place for view in named if view.epoch == epoch)
    if known is not None and epoch == known.epoch and known.place in places:
        return known
    (place, _), *_ = places.most_common(1)
    return Named(place, epoch)


def trouble(views: Sequence[View]) -> str:
    """Return why no sentinel names a primary, in one sentence."""
    silent = [view for view in views if isinstance(view, Silent)]
    if not silent:
        return "no sentinel has answered yet"
    reason = next((view.why for view in silent if view.always), "")
    return reason or f"none of {len(views)} sentinels answers: {silent[0].why}"


def warnings(views: Sequence[View], known: Named | None) -> tuple[str, ...]:
    """Return a warning if a failover is impossible or less likely because of silent sentinels."""
    silent = [view for view in views if isinstance(view, Silent)]
    if not silent or known is None:
        return ()
    count, needed = len(views) - len(silent), majority(len(views))
    if count < needed:
        warning = (
            f"only {count} of {len(views)} sentinels answer, and Redis cannot fail over until "
            f"{needed} do: {silent[0].why}"
        )
        return (warning,)
    return (f"{count} of {len(views)} sentinels answer: {silent[0].why}",)
