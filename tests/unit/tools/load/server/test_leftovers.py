from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tools.load.server import leftovers
from tools.load.server.leftovers import STEADY_OBSERVATIONS, Leftover, after_load, before_load

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tools.load.server.leftovers import Counts

FILES = ("gateway", "descriptors")
TASKS = ("gateway", "tasks")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "OBSERVE_SECONDS", 0)


def seeing(*looks: Counts) -> Callable[[], Awaitable[Counts]]:
    """Return a sampler that yields these in turn, and then always the last."""
    rest = list(looks)

    async def look() -> Counts:
        return rest.pop(0) if len(rest) > 1 else rest[0]

    return look


class TestBefore:
    async def test_what_disappears_before_the_load_is_not_counted(self) -> None:
        assert await before_load(seeing({FILES: 30}, {FILES: 24}, {FILES: 16})) == {FILES: 16}

    async def test_what_appears_for_a_moment_is_not_counted(self) -> None:
        assert await before_load(seeing({FILES: 16}, {FILES: 17}, {FILES: 16})) == {FILES: 16}

    async def test_it_looks_until_the_count_stops_falling(self) -> None:
        slowly = [{FILES: 16}] * STEADY_OBSERVATIONS
        assert await before_load(seeing({FILES: 20}, *slowly, {FILES: 15})) == {FILES: 15}

    async def test_each_kind_is_counted_by_itself(self) -> None:
        looks = seeing({FILES: 16, TASKS: 9}, {FILES: 17, TASKS: 7}, {FILES: 18, TASKS: 8})
        assert await before_load(looks) == {FILES: 16, TASKS: 7}

    async def test_it_stops_looking_after_a_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(leftovers, "WAIT_SECONDS", 0)
        assert await before_load(seeing({FILES: 20}, {FILES: 19})) == {FILES: 20}


class TestAfter:
    async def test_it_waits_until_everything_is_gone(self) -> None:
        looks = seeing({FILES: 90, TASKS: 7}, {FILES: 16, TASKS: 8}, {FILES: 17, TASKS: 7})
        assert await after_load(looks, {FILES: 16, TASKS: 7}) == [
            Leftover("gateway", "descriptors", 16, 16, left=0),
            Leftover("gateway", "tasks", 7, 7, left=0),
        ]

    async def test_what_does_not_disappear_is_left_over(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(leftovers, "WAIT_SECONDS", 0)
        (item,) = await after_load(seeing({FILES: 19}), {FILES: 16})
        assert item == Leftover("gateway", "descriptors", 16, 19, left=3)

    async def test_fewer_of_one_do_not_make_up_for_more_of_another(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(leftovers, "WAIT_SECONDS", 0)
        found = await after_load(seeing({FILES: 14, TASKS: 9}), {FILES: 16, TASKS: 7})
        assert [item.left for item in found] == [0, 2]

    async def test_what_can_no_longer_be_observed_has_no_count(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(leftovers, "WAIT_SECONDS", 0)
        (item,) = await after_load(seeing({}), {TASKS: 7})
        assert item == Leftover("gateway", "tasks", 7, None, left=0)

    async def test_what_was_not_observed_before_is_left_out(self) -> None:
        assert await after_load(seeing({FILES: 16, TASKS: 7}), {FILES: 16}) == [
            Leftover("gateway", "descriptors", 16, 16, left=0)
        ]
