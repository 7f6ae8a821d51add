"""What approval warns about where Redis may lose or evict records."""

from __future__ import annotations

from typing import Any

import pytest

from services.approval.storage.requirements import RedisFound

SOUND: dict[str, Any] = {"aof_enabled": 1, "maxmemory": 0, "maxmemory_policy": "noeviction"}


def test_nothing_where_all_is_as_it_should_be() -> None:
    assert RedisFound(SOUND, "always").warnings() == ()


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
    (received,) = RedisFound(SOUND | info, appendfsync).warnings()
    assert received.startswith(warning)


def test_a_policy_without_a_limit_evicts_nothing() -> None:
    assert RedisFound(SOUND | {"maxmemory_policy": "allkeys-lru"}, "always").warnings() == ()


def test_refused_commands_are_reported_with_what_that_means() -> None:
    (unreadable,) = RedisFound(None, None).warnings()
    assert unreadable.startswith("INFO is refused")
    (unconfirmed,) = RedisFound(SOUND, "always", confirms=False, replicated=True).warnings()
    assert unconfirmed.startswith("WAIT is refused")


@pytest.mark.parametrize("info", [SOUND | {"connected_slaves": 1}, SOUND])
def test_replicas_need_a_primary_that_stops_without_them(info: dict[str, Any]) -> None:
    (warning,) = RedisFound(info, "always", replicated=True).warnings()
    assert warning.startswith("min-replicas-to-write is 0")
    guarded = info | {"min_slaves_good_slaves": 1}
    assert RedisFound(guarded, "always", replicated=True).warnings() == ()


@pytest.mark.parametrize(
    ("info", "confirms", "replicated", "waits"),
    [
        (SOUND, True, False, False),
        (SOUND | {"connected_slaves": 1}, True, False, True),
        (SOUND, True, True, True),  # a failover has left the primary alone for a moment
        (None, True, True, True),
        (SOUND | {"connected_slaves": 1}, False, True, False),
    ],
)
def test_a_commit_waits_wherever_a_replica_can_confirm_it(
    info: dict[str, Any] | None, *, confirms: bool, replicated: bool, waits: bool
) -> None:
    assert RedisFound(info, "always", confirms=confirms, replicated=replicated).waits is waits
