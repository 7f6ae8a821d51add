"""What approval warns about where Redis may lose or evict records."""

from __future__ import annotations

from typing import Any

import pytest

from services.approval.requests.liveness import durability_warnings

SOUND: dict[str, Any] = {"aof_enabled": 1, "maxmemory": 0, "maxmemory_policy": "noeviction"}


def test_nothing_where_all_is_as_it_should_be() -> None:
    assert durability_warnings(SOUND, "always") == ()


@pytest.mark.parametrize(
    ("info", "appendfsync", "warning"),
    [
        ({"aof_enabled": 0}, "always", "appendonly is off"),
        ({"aof_enabled": 0}, None, "appendonly is off"),
        ({}, "everysec", "appendfsync is everysec"),
        ({}, "no", "appendfsync is no"),
        ({}, None, "appendfsync cannot be read"),
        (
            {"maxmemory": 1, "maxmemory_policy": "allkeys-lru"},
            "always",
            "maxmemory-policy is allkeys-lru",
        ),
    ],
)
def test_each_is_reported_with_advice(
    info: dict[str, Any], appendfsync: str | None, warning: str
) -> None:
    (received,) = durability_warnings(SOUND | info, appendfsync)
    assert received.startswith(warning)


def test_a_policy_without_a_limit_evicts_nothing() -> None:
    assert durability_warnings(SOUND | {"maxmemory_policy": "allkeys-lru"}, "always") == ()
