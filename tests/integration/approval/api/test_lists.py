"""Lists of many requests and devices over the API: paging, search and order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from services.approval.domain.authorization import OPERATOR, Caller
from services.approval.domain.errors import NotAllowed
from services.approval.domain.listing import Wanted, WantedRequests
from services.approval.registry.queries import SEARCHED_AT_ONCE
from shared.protocol.scopes import PAIRING
from shared.rpc.messages import HeartbeatQuestion, Position
from shared.rpc.reports import Seen
from tests.support.approval.devices import Device

if TYPE_CHECKING:
    from tests.integration.approval.operator import Operator
    from tests.integration.approval.replica import Replica
    from tests.support.clock import FakeClock


async def pages(operator: Operator, path: str, field: str) -> list[list[dict[str, Any]]]:
    """Read a list page by page."""
    found, after = [], ""
    while True:
        answer = (await operator.get(path + after)).ok()
        found.append(answer[field])
        if "next" not in answer:
            return found
        after = f"&after={answer['next']}"


class TestDevices:
    async def test_the_parts_together_are_the_whole_list(
        self, here: Replica, operator: Operator, clock: FakeClock
    ) -> None:
        devices = [Device.new() for _ in range(7)]
        for number, device in enumerate(devices):
            clock.advance(number // 3)  # several are approved in the same millisecond
            await here.pair(device)
        whole = (await operator.get("/v1/devices")).ok()
        assert (len(whole["devices"]), whole["total"]) == (7, 7)
        assert "next" not in whole
        for limit in (1, 2, 3, 6, 7, 8):
            parts = await pages(operator, f"/v1/devices?limit={limit}", "devices")
            assert [len(part) for part in parts[:-1]] == [limit] * (len(parts) - 1)
            assert [item for part in parts for item in part] == whole["devices"]

    async def test_a_device_that_was_removed_or_approved_meanwhile_repeats_nothing(
        self, here: Replica, operator: Operator, clock: FakeClock
    ) -> None:
        devices = [Device.new() for _ in range(4)]
        for device in devices:
            clock.advance(1)
            await here.pair(device)
        first = (await operator.get("/v1/devices?limit=2")).ok()
        clock.advance(1)
        await here.pair(Device.new())
        await here.registry.remove(OPERATOR, devices[2].device_id)
        second = (await operator.get(f"/v1/devices?limit=2&after={first['next']}")).ok()
        assert [device["deviceId"] for device in second["devices"]] == [
            devices[1].device_id,
            devices[0].device_id,
        ]
        assert "next" not in second

    async def test_a_search_finds_what_is_far_down_the_list(
        self, here: Replica, operator: Operator
    ) -> None:
        kitchen = Device.new()
        await here.pair(kitchen, name="Kitchen Mac")
        await here.registry.rename(OPERATOR, kitchen.device_id, "Göteborg")
        others = [Device.new() for _ in range(3)]
        for device in others:
            await here.pair(device)
        for search in ("göteborg", "KITCHEN mac", kitchen.device_id[:12]):
            found = (await operator.get(f"/v1/devices?limit=2&q={quote(search)}")).ok()
            assert [device["deviceId"] for device in found["devices"]] == [kitchen.device_id]
            assert found["total"] == 1
        everywhere = (await operator.get("/v1/devices?limit=3&q=linux")).ok()
        assert everywhere["total"] == 4
        parts = await pages(operator, "/v1/devices?limit=3&q=linux", "devices")
        assert [len(part) for part in parts] == [3, 1]
        assert (await operator.get("/v1/devices?q=nobody")).ok() == {"devices": [], "total": 0}

    async def test_a_search_goes_through_more_than_is_read_at_once(self, here: Replica) -> None:
        """Records are written directly: that many pairings would take long."""
        sample = Device.new()
        await here.pair(sample, name="Needle")
        (record,) = (await here.store.records([sample.device_id])).records
        value = await here.redis.get(f"latchkey:device:{sample.device_id}")
        many = SEARCHED_AT_ONCE + 10
        assert record.pairing is not None
        for number in range(many):
            other = f"{number:064x}"
            await here.redis.set(
                f"latchkey:device:{other}", value.replace(sample.device_id.encode(), other.encode())
            )
            await here.redis.zadd("latchkey:paired", {other: record.pairing.approved_at_ms})
        part = await here.registry.devices_part(OPERATOR, Wanted(5, search="needle"))
        assert (len(part.devices), part.total) == (5, many + 1)

    async def test_a_device_is_found_by_where_it_was_last_seen(
        self, here: Replica, operator: Operator
    ) -> None:
        device = Device.new()
        await here.pair(device, address="192.0.2.1")
        seen = [Seen(device.device_id, "operator", "token", "198.51.100.7", 0)]
        question = HeartbeatQuestion(
            1, Position(), booted=False, builds_on=0, connections=0, seen=seen
        )
        await here.store.heartbeats.answer("gateway", question)
        (shown,) = (await operator.get("/v1/devices?q=198.51.100")).ok()["devices"]
        assert shown["remoteIp"] == "198.51.100.7"

    async def test_named_devices_are_read_together(self, here: Replica, operator: Operator) -> None:
        first, second = await here.paired(), await here.paired()
        ids = ",".join([second.device_id, "0" * 64, first.device_id, second.device_id])
        found = (await operator.get(f"/v1/devices?ids={ids}")).ok()
        assert [device["deviceId"] for device in found["devices"]] == [
            second.device_id,
            first.device_id,
        ]

    @pytest.mark.parametrize(
        "query",
        [
            *("limit=0", "limit=201", "limit=x", "after=5", "after=x.y", "ids=abc", "q=a&q=b"),
            *(f"ids={','.join(['0' * 64] * 51)}", f"q={'x' * 257}", "offset=5"),
        ],
    )
    async def test_what_makes_no_sense_is_refused(self, operator: Operator, query: str) -> None:
        (await operator.get(f"/v1/devices?{query}")).problem(400, "malformed")

    async def test_a_caller_limited_to_one_device_finds_no_other(self, here: Replica) -> None:
        own, other = await here.paired(PAIRING), await here.paired()
        caller = await here.socket(own, PAIRING)
        part = await here.registry.devices_part(caller, Wanted(10))
        assert [device.device_id for device in part.devices] == [own.device_id]
        assert part.total == 1
        named = await here.registry.devices_named(caller, [other.device_id, own.device_id])
        assert [device.device_id for device in named.devices] == [own.device_id]


class TestRequests:
    async def test_the_parts_together_are_the_whole_list(
        self, here: Replica, operator: Operator, clock: FakeClock
    ) -> None:
        for number in range(7):
            clock.advance(number // 3)
            await here.request(Device.new().asks(address=f"203.0.113.{number}"))
        whole = (await operator.get("/v1/requests")).ok()
        assert whole["total"] == 7
        parts = await pages(operator, "/v1/requests?limit=3", "pending")
        assert [len(part) for part in parts] == [3, 3, 1]
        assert [item for part in parts for item in part] == whole["pending"]

    async def test_a_flood_from_one_address_leaves_capacity_for_others(
        self, here: Replica, operator: Operator, clock: FakeClock
    ) -> None:
        legitimate = await here.request(Device.new().asks(address="198.51.100.7"))
        flood = []
        for _ in range(6):
            clock.advance(1)
            asked = await here.request(Device.new().asks(address="2001:db8::1"))
            flood.append(asked.request_id)
        answer = (await operator.get("/v1/requests?limit=3&perAddress=2")).ok()
        assert [request["requestId"] for request in answer["pending"]] == [
            flood[5],
            flood[4],
            legitimate.request_id,
        ]
        assert answer["addresses"] == [{"address": "2001:db8::/64", "count": 6}]
        assert answer["total"] == 7
        stored = (await operator.get(f"/v1/requests?limit=1&keep={flood[0]},gone")).ok()
        assert [request["requestId"] for request in stored["pending"]] == [flood[5], flood[0]]
        theirs = (await operator.get("/v1/requests?limit=9&address=2001:db8::/64")).ok()
        assert [request["requestId"] for request in theirs["pending"]] == flood[::-1]

    async def test_a_request_is_found_by_what_its_device_prints(
        self, here: Replica, operator: Operator
    ) -> None:
        asked = [await here.request(Device.new().asks(name=f"Device {n}")) for n in range(3)]
        wanted = asked[1].request_id
        found = (await operator.get(f"/v1/requests?q={wanted[:8]}")).ok()
        assert [request["requestId"] for request in found["pending"]] == [wanted]


async def test_a_caller_without_the_scope_reads_no_part_of_anything(here: Replica) -> None:

    caller = Caller("shared-secret", "gateway:1", ("operator.read",))
    for call in (
        here.registry.devices_part(caller, Wanted(1)),
        here.registry.devices_named(caller, []),
        here.registry.pending_part(caller, WantedRequests(1)),
        here.registry.reject_all(caller, []),
    ):
        with pytest.raises(NotAllowed):
            await call
