"""Which addresses and networks a pending request counts for."""

from __future__ import annotations

import pytest

from shared.addresses.client import limit_key
from shared.addresses.holders import holders


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("203.0.113.9", ("203.0.113.9",)),
        ("::ffff:203.0.113.9", ("203.0.113.9",)),
        ("127.0.0.1", ("127.0.0.1",)),
        ("::1", ("::1",)),
        ("nonsense", ("unknown",)),
        (
            "2001:db8:12:3456:7::8",
            ("2001:db8:12::/48", "2001:db8:12:3400::/56", "2001:db8:12:3456::/64"),
        ),
        ("2001:db8::1", ("2001:db8::/48", "2001:db8::/56", "2001:db8::/64")),
    ],
)
def test_an_ipv6_address_counts_for_the_networks_around_it(
    address: str, expected: tuple[str, ...]
) -> None:
    assert holders(limit_key(address)) == expected


@pytest.mark.parametrize("text", ["", "2001:db8::/48", "10.0.0.0/8", "x/64"])
def test_anything_else_is_its_own_holder(text: str) -> None:
    assert holders(text) == (text,)
