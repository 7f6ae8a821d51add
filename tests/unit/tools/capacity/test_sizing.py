"""The sizes follow from the costs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from tools.capacity.costs import MEASURED
from tools.capacity.sizing import BUSY, SIZES, limit_of_one_redis, size


def test_more_devices_need_more_of_everything() -> None:
    sizes = [size(devices, MEASURED) for devices in SIZES]
    for less, more in pairwise(sizes):
        assert less.gateways <= more.gateways
        assert less.approvals <= more.approvals
        assert less.redis_storm < more.redis_storm
        assert less.redis_mb < more.redis_mb


def test_a_storm_in_less_time_needs_more() -> None:
    at_once, spread = (size(100_000, MEASURED, seconds) for seconds in (5.0, 20.0))
    assert at_once.gateways > spread.gateways
    assert at_once.approvals > spread.approvals
    assert at_once.redis_storm > spread.redis_storm


def test_dearer_admissions_need_more_gateways() -> None:
    dear = replace(MEASURED, admission_gateway_us=10 * MEASURED.admission_gateway_us)
    assert size(100_000, dear).gateways > size(100_000, MEASURED).gateways


def test_the_limit_of_one_redis_is_where_it_becomes_too_busy() -> None:
    maximum = limit_of_one_redis(MEASURED)
    assert size(maximum, MEASURED).redis_storm <= BUSY < size(maximum + 1_000, MEASURED).redis_storm
