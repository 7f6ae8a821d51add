"""Which hosts OpenClaw treats as remote."""

from __future__ import annotations

import pytest

from services.cli.doctor.openclaw.pairing import is_public


@pytest.mark.parametrize("host", ["gateway.example", "my.up.railway.app", "8.8.8.8"])
def test_public_names_and_addresses_are(host: str) -> None:
    assert is_public(host)


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1", "::1", "10.0.0.1", "100.64.0.7", "box.local", "x.railway.internal"],
)
def test_names_and_addresses_of_a_private_network_are_not(host: str) -> None:
    assert not is_public(host)
