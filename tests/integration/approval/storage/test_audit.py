from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.integration.approval.replica import everything
from tests.support.approval.devices import Device

if TYPE_CHECKING:
    from tests.integration.approval.operator import Operator
    from tests.integration.approval.replica import Replica
    from tests.support.clock import FakeClock
    from tools.support.processes.redis import RedisServer

FORGED = 'x"}\n{"action":"approved","actor":"operator"}\r\n\u2028\u202e\x1b[31m<b>*:\x00'


class TestReading:
    async def test_the_log_is_empty_before_the_first_entry(self, operator: Operator) -> None:
        assert (await operator.get("/v1/audit")).ok() == {"entries": [], "next": 0}
        assert (await operator.get("/v1/audit?after=7")).ok() == {"entries": [], "next": 7}

    async def test_entries_say_who_did_what_and_when(
        self, here: Replica, operator: Operator, clock: FakeClock
    ) -> None:
        device = Device.new()
        asked = await here.request(device.asks(address="203.0.113.9"))
        clock.advance(2)
        (await operator.approve(asked.request_id)).ok()
        common = {
            "deviceId": device.device_id,
            "requestId": asked.request_id,
            "role": "operator",
            "roles": ["operator"],
            "scopes": ["operator.read"],
            "address": "203.0.113.9",
        }
        assert await operator.audit() == [
            {
                "id": 1,
                "action": "requested",
                "actor": f"device {device.device_id}",
                "atMs": clock.wall_ms() - 2000,
                **common,
            },
            {
                "id": 2,
                "action": "approved",
                "actor": "operator:admin",
                "atMs": clock.wall_ms(),
                **common,
            },
        ]

    async def test_every_act_has_its_entry(self, here: Replica, operator: Operator) -> None:
        device = Device.new()
        await here.pair(device)
        await here.request(device.asks(("operator.talk",)))
        asked = await here.request(device.asks(("operator.write",)))
        await operator.post(f"/v1/requests/{asked.request_id}/reject")
        await operator.call("PATCH", f"/v1/devices/{device.device_id}", json={"label": "a"})
        await operator.post(f"/v1/devices/{device.device_id}/tokens/operator/rotate")
        await operator.post(f"/v1/devices/{device.device_id}/tokens/operator/revoke")
        await operator.call("DELETE", f"/v1/devices/{device.device_id}")
        assert [entry["action"] for entry in await operator.audit()] == [
            *("requested", "approved", "requested", "requested", "rejected"),
            *("renamed", "rotated", "revoked", "removed"),
        ]

    async def test_the_log_can_be_read_page_by_page(
        self, here: Replica, operator: Operator
    ) -> None:
        for _ in range(5):
            await here.request(Device.new().asks())
        after, pages = 0, []
        for _ in range(4):
            page = (await operator.get(f"/v1/audit?after={after}&limit=2")).ok()
            pages.append([entry["id"] for entry in page["entries"]])
            after = page["next"]
        assert pages == [[1, 2], [3, 4], [5], []]
        assert after == 5

    async def test_a_hundred_entries_are_read_by_default(
        self, here: Replica, operator: Operator
    ) -> None:
        for _ in range(101):
            await here.request(Device.new().asks(address="203.0.113.9"))
        assert len((await operator.get("/v1/audit")).ok()["entries"]) == 100

    @pytest.mark.parametrize(
        "query",
        [
            *("limit=0", "limit=1001", "limit=-1", "limit=", "limit=1.5", "limit=1&limit=1"),
            *("after=-1", "after=x", "after=9007199254740992", "after=1&after=2", "After=1"),
            "until=5",
        ],
    )
    async def test_a_malformed_query_is_refused(self, operator: Operator, query: str) -> None:
        assert (await operator.get(f"/v1/audit?{query}")).problem(400, "malformed") == {}

    async def test_the_highest_number_is_a_valid_start(self, operator: Operator) -> None:
        last = 2**53 - 1
        reply = await operator.get(f"/v1/audit?after={last}&limit=1000")
        assert reply.ok() == {"entries": [], "next": last}


class TestHostileNames:
    """Hostile names are data: they are returned as sent, and become part of no key."""

    async def test_a_hostile_name_is_stored_and_shown_as_text(
        self, here: Replica, operator: Operator, redis_server: RedisServer
    ) -> None:
        device = Device.new()
        asked = await here.request(device.asks(name=FORGED, platform="*:linux\n"))
        (request,) = (await operator.get("/v1/requests")).ok()["pending"]
        assert request["displayName"] == FORGED
        (await operator.approve(asked.request_id)).ok()
        shown = (await operator.get(f"/v1/devices/{device.device_id}")).ok()
        assert (shown["displayName"], shown["platform"]) == (FORGED, "*:linux\n")
        keys = (await everything(redis_server.admin_url)).keys()
        assert all(re.fullmatch(r"latchkey:[a-z0-9:-]+", key) for key in keys), keys

    async def test_a_hostile_label_is_stored_and_shown_as_text(
        self, here: Replica, operator: Operator
    ) -> None:
        device = Device.new()
        await here.pair(device)
        label = '</script>\u202e\x1b[2J"\n{}'
        reply = await operator.call(
            "PATCH", f"/v1/devices/{device.device_id}", json={"label": label}
        )
        assert reply.ok()["label"] == label
        assert "\n" not in reply.text


class TestLineBreaksInNames:
    """A line break in a name forges no line of the audit log."""

    async def test_line_breaks_in_names_add_no_log_lines(
        self, here: Replica, operator: Operator
    ) -> None:
        device = Device.new()
        await here.pair(device, name=FORGED)
        body = {"label": 'a"}\n{"action":"approved"'}
        await operator.call("PATCH", f"/v1/devices/{device.device_id}", json=body)
        reply = await operator.get("/v1/audit")
        assert len(reply.text.splitlines()) == 1
        assert [entry["action"] for entry in reply.ok()["entries"]] == [
            "requested",
            "approved",
            "renamed",
        ]
        stored = await here.redis.xrange("latchkey:audit")
        for number, (entry_id, fields) in enumerate(stored, 1):
            assert entry_id == f"{number}-0".encode()
            assert len(fields[b"entry"].splitlines()) == 1
            assert msgspec.json.decode(fields[b"entry"])["deviceId"] == device.device_id
