"""Close reasons are cut to 120 UTF-8 bytes at a character boundary."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.protocol.closing import CloseCode, cut_reason


@given(st.text(max_size=300))
def test_a_cut_reason_is_short_enough_and_a_prefix(reason: str) -> None:
    cut = cut_reason(reason)
    assert len(cut.encode()) <= 120
    assert reason.startswith(cut)


@given(st.text(max_size=300))
def test_no_shorter_than_need_be(reason: str) -> None:
    cut = cut_reason(reason)
    if cut != reason:
        assert len((cut + reason[len(cut)]).encode()) > 120


@pytest.mark.parametrize(
    ("reason", "cut"),
    [
        ("", ""),
        ("x" * 120, "x" * 120),
        ("x" * 121, "x" * 120),
        ("x" * 119 + "é", "x" * 119),
        ("é" * 61, "é" * 60),
        ("x" + "🔑" * 30, "x" + "🔑" * 29),
    ],
)
def test_long_reasons_are_cut_between_characters(reason: str, cut: str) -> None:
    assert cut_reason(reason) == cut


def test_a_request_id_may_be_cut_in_half() -> None:
    reason = (
        "pairing required: device is asking for a higher role than currently approved "
        "(requestId: 220dd984-79b3-4860-a084-c16f321f9dec)"
    )
    assert cut_reason(reason).endswith("(requestId: 220dd984-79b3-4860-a084-c16f321")


def test_codes_are_valid_on_the_wire() -> None:
    for code in CloseCode:
        assert code in {1000, 1002, 1003, 1007, 1008, 1009, 1012, 1013} or 4000 <= code <= 4999
