from __future__ import annotations

import pytest

from tools.drills.load.grants import Grants


@pytest.fixture
def grants() -> Grants:
    """Return grants that allow `device` from 10 to 20, and again from 30 on."""
    grants = Grants()
    grants.grant("device", 10.0)
    grants.void("device", 20.0)
    grants.grant("device", 30.0)
    return grants


@pytest.mark.parametrize(
    ("began", "at", "may"),
    [
        (8.0, 9.9, False),
        (9.0, 10.1, True),
        (19.9, 21.0, True),
        (20.0, 20.1, False),
        (21.0, 29.0, False),
        (29.0, 30.0, True),
        (40.0, 40.1, True),
    ],
)
def test_a_device_may_be_admitted_while_a_grant_may_have_held(
    grants: Grants, began: float, at: float, *, may: bool
) -> None:
    assert grants.may_enter("device", began, at) is may
    assert not grants.may_enter("stranger", began, at)


def test_a_grant_holds_only_over_the_whole_time(grants: Grants) -> None:
    assert grants.holds("device", 11.0, 19.0)
    assert not grants.holds("device", 9.0, 11.0)
    assert not grants.holds("device", 19.0, 21.0)
    assert not grants.holds("device", 15.0, 35.0)


def test_a_grant_after_everything_was_lost_is_valid(grants: Grants) -> None:
    grants.grant("other", 41.0)
    grants.void_all(40.0, 42.0)
    assert not grants.stands("device")
    assert grants.stands("other")
    assert not grants.may_enter("device", 42.0, 43.0)
