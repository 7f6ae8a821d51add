"""Which server counts as the primary, from what the sentinels say."""

from __future__ import annotations

import pytest

from shared.redis.address import Place
from shared.redis.primary import Named, Silent, View, choose, majority, trouble, warnings

OLD, NEW = Place("10.0.0.1", 6379), Place("10.0.0.2", 6379)
AWAY = Silent("sentinel 10.0.0.9:26379: no answer in time")


@pytest.mark.parametrize(
    ("views", "known", "chosen"),
    [
        ([None, None, None], None, None),
        ([AWAY, AWAY, AWAY], None, None),
        ([AWAY, None, Named(OLD, 1)], None, Named(OLD, 1)),
        # The highest epoch counts, even if only one sentinel knows it yet.
        ([Named(OLD, 1), Named(NEW, 2), Named(OLD, 1)], None, Named(NEW, 2)),
        ([Named(OLD, 1), Named(NEW, 2), Named(OLD, 1)], Named(OLD, 1), Named(NEW, 2)),
        # A sentinel that was cut off returns with what it knew before.
        ([Named(OLD, 1), AWAY, AWAY], Named(NEW, 2), Named(NEW, 2)),
        ([Named(OLD, 1), None, None], Named(NEW, 2), Named(NEW, 2)),
        # All sentinels were set up anew.
        ([Named(OLD, 0), Named(OLD, 0), AWAY], Named(NEW, 2), Named(OLD, 0)),
        # Nobody answers: what was known stays.
        ([AWAY, AWAY, AWAY], Named(NEW, 2), Named(NEW, 2)),
        # Sentinels of the same epoch disagree: no change without a reason.
        ([Named(OLD, 1), Named(NEW, 1), Named(NEW, 1)], Named(OLD, 1), Named(OLD, 1)),
        ([Named(OLD, 1), Named(NEW, 1), Named(NEW, 1)], None, Named(NEW, 1)),
    ],
)
def test_the_newest_failover_counts(
    views: list[View], known: Named | None, chosen: Named | None
) -> None:
    assert choose(views, known) == chosen


@pytest.mark.parametrize(("sentinels", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
def test_more_than_half_have_to_agree(sentinels: int, needed: int) -> None:
    assert majority(sentinels) == needed


def test_a_reason_that_waiting_does_not_mend_is_named_first() -> None:
    assert trouble([None, None]) == "no sentinel has answered yet"
    assert trouble([AWAY, AWAY]).startswith("none of 2 sentinels answers: sentinel 10.0.0.9")
    assert (
        trouble([AWAY, Silent("the service is unknown", always=True)]) == "the service is unknown"
    )


def test_silent_sentinels_are_a_warning_while_the_primary_is_known() -> None:
    named = Named(OLD, 1)
    assert warnings([named, named, named], named) == ()
    assert warnings([AWAY, AWAY, AWAY], None) == ()
    (fewer,) = warnings([named, named, AWAY], named)
    assert fewer.startswith("2 of 3 sentinels answer: ")
    (minority,) = warnings([named, AWAY, AWAY], named)
    assert minority.startswith(
        "only 1 of 3 sentinels answer, and Redis cannot fail over until 2 do"
    )
