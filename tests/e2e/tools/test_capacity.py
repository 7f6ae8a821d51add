"""A small storm on real services is measured in the same way as a large one."""

from __future__ import annotations

from tools.capacity.measure_storms import measure_storms
from tools.capacity.storms import FIRST_WAIT_SECONDS

DEVICES = 40


def test_all_devices_of_a_storm_reconnect_after_their_first_wait() -> None:
    (storm,) = measure_storms([DEVICES], closed_seconds=1.0)
    assert (storm.devices, storm.gateways) == (DEVICES, 2)
    assert storm.half_seconds is not None
    assert storm.most_seconds is not None
    assert storm.all_seconds is not None
    assert FIRST_WAIT_SECONDS <= storm.half_seconds <= storm.most_seconds <= storm.all_seconds
    assert storm.attempts >= 1
    assert storm.rate > 0
    assert storm.health_p99 < 10
    assert storm.clients_cores > 0
