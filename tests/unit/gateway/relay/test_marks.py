"""The quick search finds every text that names a method of ours, or may."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.relay.rules.marks import may_name_ours

MARKS = (b"device.", b"node.pair.remove", b"\\u")
LONG = b"x" * 3_000


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize(
    "before", [b"", b"{", *(LONG + b".\\" * dots for dots in (0, 15, 16, 17)), b"a.b\\n" * 900]
)
def test_a_mark_is_found_after_any_number_of_dots_and_escapes(mark: bytes, before: bytes) -> None:
    assert may_name_ours(before + mark + b'pair.list"}')
    assert not may_name_ours(before + mark[:-1])


def test_only_the_text_is_searched_not_the_header_before_it() -> None:
    assert not may_name_ours(bytearray(b'device.\\u{"method":"v"}'), 9)
    assert may_name_ours(bytearray(b'xx{"method":"device.x"}'), 2)


_texts = st.lists(
    st.sampled_from(
        [*MARKS, b".", b"\\", b"u", b"v", b"device", b"evice.", b"node", b".pair.remove", b"xx"]
    ),
    max_size=60,
).map(b"".join)


@given(
    text=_texts | _texts.map(LONG.__add__) | _texts.map(lambda text: text + LONG),
    header=st.binary(max_size=14),
)
def test_it_agrees_with_a_plain_search(text: bytes, header: bytes) -> None:
    expected = any(mark in text for mark in MARKS)
    assert may_name_ours(text) is expected
    assert may_name_ours(bytearray(header + text), len(header)) is expected
