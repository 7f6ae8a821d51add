"""The sizes follow from the costs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from tools.capacity.costs import MEASURED
from tools.capacity.sizing import (
    BUSY,
    SIZES,
    limit_of_one_redis,
    rate_of_one_core,
    size,
)


def test_more_devices_need_more_of_everything() -> None:
    sizes = [size(devices, MEASURED) for devices in SIZES]
    for less, more in pairwise(sizes):
        assert less.gateways <= more.gateways
        assert less.approvals <= more.approvals
        assert less.redis_spread < more.redis_spread
        assert less.redis_mb < more.redis_mb


def test_reconnecting_in_less_time_needs_more() -> None:
    quick, slow = (size(100_000, MEASURED, seconds) for seconds in (5.0, 20.0))
    assert quick.gateways > slow.gateways
    assert quick.approvals > slow.approvals
    assert quick.redis_spread > slow.redis_spread


def test_dearer_admissions_need_more_gateways() -> None:
    dear = replace(MEASURED, admission_gateway_us=10 * MEASURED.admission_gateway_us)
    assert size(100_000, dear).gateways > size(100_000, MEASURED).gateways


def test_the_limit_of_one_redis_is_where_it_becomes_too_busy() -> None:
    maximum = limit_of_one_redis(MEASURED)
    assert (
        size(maximum, MEASURED).redis_spread <= BUSY < size(maximum + 1_000, MEASURED).redis_spread
    )


def test_after_a_drop_the_slowest_of_gateways_approvals_and_redis_limits_the_rate() -> None:
    few = size(100_000, MEASURED)
    assert few.drop_limit == "gateways"
    assert few.drop_rate == few.gateways * 1e6 / MEASURED.admission_gateway_us
    assert few.work_seconds * few.drop_rate == pytest.approx(100_000)
    slow_policy = replace(MEASURED, admission_approval_us=1_000, admission_gateway_us=1)
    assert size(100_000, slow_policy).drop_limit == "approvals"
    many = size(1_000_000, MEASURED)
    assert many.drop_limit == "Redis"
    assert many.drop_rate < 1e6 / MEASURED.admission_redis_us, "heartbeats need Redis, too"


def test_one_core_for_everything_admits_less_than_one_for_each() -> None:
    assert rate_of_one_core(MEASURED) < 1e6 / MEASURED.admission_gateway_us
