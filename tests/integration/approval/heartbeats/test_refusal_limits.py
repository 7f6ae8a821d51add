"""Recent refusals: how they are counted, and how many are stored."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from services.approval.storage.heartbeats.refusals import (
    ADDRESSES_LIMIT,
    APART_MS,
    KEPT_MS,
    REFUSED_ADDRESSES,
    REFUSED_ROWS,
    REPORTS_LIMIT,
    ROWS_PER_ADDRESS,
)
from services.approval.storage.keys import REFUSED, refused_key
from services.gateway.replication.recent_refusals import REFUSALS_PER_BEAT_ENTRIES
from shared.rpc.messages import (
    HeartbeatQuestion,
    Position,
    encode,
)
from tests.integration.approval.heartbeats.refusal_reports import (
    ADDRESS,
    beaten,
    device_id,
    listed,
    report,
    tell,
)

if TYPE_CHECKING:
    from tests.integration.approval.operator import Operator
    from tests.integration.approval.replica import Replica


class TestCounting:
    async def count(self, here: Replica, device: str) -> int:
        (found,) = await here.store.refusals.of_device(device, 1)
        return found.count

    @pytest.mark.parametrize("known", [True, False])
    async def test_what_is_reported_twice_counts_once(
        self, here: Replica, paired: str, *, known: bool
    ) -> None:
        device = paired if known else device_id(1)
        await tell(here, report(device, count=3))
        await tell(here, report(device, count=3))
        await tell(here, report(device, count=5))
        await tell(here, report(device, count=4))  # a late, older heartbeat
        assert await self.count(here, device) == 5
        await tell(here, report(device, count=6, confirmed=5))
        await tell(here, report(device, count=2, number=2))
        assert await self.count(here, device) == 8

    async def test_all_gateways_count_together(self, here: Replica, paired: str) -> None:
        await tell(here, report(paired, count=3))
        await tell(here, report(paired, count=4, number=9), gateway="west")
        await tell(here, report(paired, count=5, confirmed=3))
        assert await self.count(here, paired) == 9

    async def test_an_older_report_changes_neither_reason_nor_time(
        self, here: Replica, paired: str
    ) -> None:
        await tell(here, report(paired, "device-token-mismatch"))
        await tell(here, report(paired, age_ms=30_000, number=2), gateway="west")
        (found,) = await here.store.refusals.of_device(paired, 1)
        assert (found.reason, found.replica) == ("device-token-mismatch", "east")
        await tell(
            here,
            report(paired, "device-token-mismatch", age_ms=30_000, number=3, detail="old"),
            gateway="west",
        )
        (again,) = await here.store.refusals.of_device(paired, 1)
        assert (again.at, again.count, again.detail) == (found.at, 2, "")
        assert again.first < found.first

    async def test_counting_restarts_after_a_long_pause(self, here: Replica, paired: str) -> None:
        long_ago = 2 * APART_MS
        await tell(here, report(paired, count=7, age_ms=long_ago, first_age_ms=long_ago))
        await tell(here, report(paired, number=2))
        assert await self.count(here, paired) == 1


class TestBounds:
    async def test_a_flood_of_invented_devices_displaces_only_its_own(self, here: Replica) -> None:
        await tell(here, report(device_id(1), address="192.0.2.1"))
        for part in range(20):
            numbers = range(50 * part + 10, 50 * part + 60)
            await tell(here, *(report(device_id(number)) for number in numbers))
        found = await here.store.refusals.recent(1000)
        assert len(found) == ROWS_PER_ADDRESS + 1
        assert {item.device for item in found if item.address == "192.0.2.1"} == {device_id(1)}
        newest = {device_id(number) for number in range(1010 - ROWS_PER_ADDRESS, 1010)}
        assert {item.device for item in found if item.address == ADDRESS} == newest

    async def test_a_flood_from_many_addresses_leaves_known_devices_alone(
        self, here: Replica, paired: str
    ) -> None:
        await tell(here, report(paired, "device-token-mismatch"))
        for part in range(12):
            numbers = range(50 * part, 50 * part + 50)
            await tell(
                here,
                *(
                    report(device_id(number), address=f"10.0.{number // 250}.{number % 250}")
                    for number in numbers
                ),
            )
        assert await here.redis.zcard(REFUSED_ADDRESSES) == ADDRESSES_LIMIT
        assert await here.redis.hlen(REFUSED_ROWS) == ADDRESSES_LIMIT
        (found,) = await here.store.refusals.of_device(paired, 1)
        assert found.reason == "device-token-mismatch"

    async def test_more_than_a_gateway_may_report_is_not_read(self, here: Replica) -> None:
        assert REPORTS_LIMIT == REFUSALS_PER_BEAT_ENTRIES
        await tell(
            here,
            *(
                report(device_id(number), address=f"10.0.0.{number}")
                for number in range(REPORTS_LIMIT + 50)
            ),
        )
        assert await here.redis.hlen(REFUSED_ROWS) == REPORTS_LIMIT

    async def test_all_keys_about_refusals_expire(self, here: Replica, paired: str) -> None:
        await tell(here, report(paired), report(""))
        for key in (refused_key(paired), REFUSED, REFUSED_ADDRESSES, REFUSED_ROWS):
            assert KEPT_MS - 60_000 < await here.redis.pttl(key) <= KEPT_MS

    async def test_what_is_older_than_a_day_is_gone(self, here: Replica, paired: str) -> None:
        old = report("", age_ms=KEPT_MS, address="192.0.2.9")
        await tell(here, old, report(paired, age_ms=KEPT_MS))
        await asyncio.sleep(0.01)
        await tell(here, report(""))
        assert await here.redis.hkeys(REFUSED_ROWS) == [ADDRESS.encode()]
        assert await here.redis.zrange(REFUSED, 0, -1) == []

    async def test_how_many_bytes_a_refused_device_takes(self, here: Replica, paired: str) -> None:
        """The figure in docs/performance.md."""
        full = {"client_id": "openclaw-control-ui", "display_name": "n" * 64, "detail": "d" * 128}
        await tell(
            here,
            report(paired, "device-token-mismatch", **full),
            report(paired, "device-signature-stale", **full, proven=False),
        )
        assert await here.redis.memory_usage(refused_key(paired)) <= 1_100


class TestHeartbeats:
    async def test_a_heartbeat_is_answered_although_its_refusals_cannot_be_written(
        self, here: Replica
    ) -> None:
        await here.redis.set(REFUSED_ROWS, "of a wrong type")
        beat = HeartbeatQuestion(
            1, Position(), booted=False, builds_on=0, connections=0, refused=[report("")]
        )
        assert (await beaten(here, encode(beat))).heartbeat_id == 1

    async def test_a_heartbeat_of_the_previous_release_reports_none(
        self, here: Replica, operator: Operator
    ) -> None:
        beat = HeartbeatQuestion(1, Position(), booted=False, builds_on=0, connections=0)
        older = msgspec.msgpack.encode(msgspec.msgpack.decode(encode(beat))[:-1])
        assert (await beaten(here, older)).heartbeat_id == 1
        assert await listed(operator) == []
