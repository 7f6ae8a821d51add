"""The estimate of another machine's clock is never ahead of it."""

from __future__ import annotations

import random

import pytest

from shared.clock import remote_offset_ms


def test_the_first_estimate_is_the_lower_bound() -> None:
    assert remote_offset_ms(None, 1_000, sent_ms=0, received_ms=400) == 600


def test_a_slow_reply_does_not_spoil_what_a_fast_one_has_shown() -> None:
    known = remote_offset_ms(None, 1_000, sent_ms=0, received_ms=2)
    assert remote_offset_ms(known, 3_000, sent_ms=1_000, received_ms=2_900) == known


@pytest.mark.parametrize("set_back_ms", [0, 5_000, -5_000])
def test_it_is_never_ahead_also_after_the_clock_was_set(set_back_ms: int) -> None:
    chance = random.Random(1)
    offset: float | None = None
    ours, true = 0.0, 1_000.0
    for step in range(200):
        if step == 100:
            true -= set_back_ms
        to, back = chance.uniform(0, 900), chance.uniform(0, 900)
        offset = remote_offset_ms(
            offset, ours + to + true, sent_ms=ours, received_ms=ours + to + back
        )
        assert offset <= true + 1e-6
        ours += 2_000
