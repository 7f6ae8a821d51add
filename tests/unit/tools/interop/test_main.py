"""What `--only` selects."""

from __future__ import annotations

import pytest

from tools.interop.__main__ import split


@pytest.mark.parametrize(
    ("only", "parts", "groups"),
    [
        (["cli", "relay"], ["cli", "relay"], ()),
        (["relay.chat", "relay.limits", "cli"], ["relay", "cli"], ("chat", "limits")),
        (["relay.chat", "relay.chat"], ["relay"], ("chat",)),
        (["relay.chat", "relay"], ["relay"], ()),
    ],
)
def test_only_selects_parts_and_groups(
    only: list[str], parts: list[str], groups: tuple[str, ...]
) -> None:
    assert split(only) == (parts, groups)
