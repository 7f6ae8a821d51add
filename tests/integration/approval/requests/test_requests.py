from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.rpc.messages import NeedsPairing
from tests.integration.approval.replica import TTL_SECONDS
from tests.support.approval.devices import Device

if TYPE_CHECKING:
    from tests.integration.approval.operator import Operator
    from tests.integration.approval.replica import Replica
    from tests.support.clock import FakeClock

ADMIN = ("operator.admin",)
UNKNOWN = "00000000-0000-4000-8000-000000000000"


class TestListing:
    async def test_the_list_is_empty_before_the_first_request(self, operator: Operator) -> None:
        assert (await operator.get("/v1/requests")).ok() == {"pending": [], "total": 0}

    async def test_a_request_object_is_as_documented(
        self, here: Replica, operator: Operator, clock: FakeClock
    ) -> None:
        device = Device.new()
        asked = await here.request(
            device.asks(
                ("operator.read", "operator.pairing"), name="Kitchen", address="203.0.113.9"
            )
        )
        listed = (await operator.get("/v1/requests")).ok()
        assert listed == {
            "pending": [
                {
                    "requestId": asked.request_id,
                    "deviceId": device.device_id,
                    "publicKey": device.public_key,
                    "displayName": "Kitchen",
                    "platform": "linux",
                    "deviceFamily": "Linux",
                    "clientId": "cli",
                    "clientMode": "cli",
                    "role": "operator",
                    "roles": ["operator"],
                    "scopes": ["operator.read", "operator.pairing"],
                    "remoteIp": "203.0.113.9",
                    "silent": False,
                    "isRepair": False,
                    "ts": clock.wall_ms(),
                    "lastAskedAtMs": clock.wall_ms(),
                }
            ],
            "total": 1,
        }

    async def test_a_request_shows_when_its_device_last_asked(
        self, here: Replica, operator: Operator, clock: FakeClock
    ) -> None:
        device = Device.new()
        await here.request(device.asks(call_id="gateway:1"))
        began = clock.wall_ms()
        clock.advance(60)
        await here.request(device.asks(call_id="gateway:2"))
        (request,) = (await operator.get("/v1/requests")).ok()["pending"]
        assert (request["ts"], request["lastAskedAtMs"]) == (began, began + 60_000)

    async def test_what_is_not_known_is_left_out(self, here: Replica, operator: Operator) -> None:
        await here.request(Device.new().asks(family=""))
        (request,) = (await operator.get("/v1/requests")).ok()["pending"]
        assert request.keys().isdisjoint({"displayName", "deviceFamily", "remoteIp"})
        assert None not in request.values()

    async def test_the_newest_is_first_and_a_refresh_moves_nothing(
        self, here: Replica, operator: Operator, clock: FakeClock
    ) -> None:
        first, second = Device.new(), Device.new()
        older = await here.request(first.asks())
        clock.advance(1)
        newer = await here.request(second.asks())
        clock.advance(60)
        assert (await here.request(first.asks())).request_id == older.request_id
        assert await operator.pending_ids() == [newer.request_id, older.request_id]

    async def test_a_repair_says_so(self, here: Replica, operator: Operator) -> None:
        device = Device.new()
        await here.pair(device)
        asked = await here.request(device.asks(ADMIN))
        (request,) = (await operator.get("/v1/requests")).ok()["pending"]
        assert (request["requestId"], request["isRepair"]) == (asked.request_id, True)


class TestApproving:
    async def test_the_device_is_admitted_and_the_request_is_gone(
        self, here: Replica, operator: Operator
    ) -> None:
        device = Device.new()
        asked = await here.request(device.asks())
        approved = (await operator.approve(asked.request_id)).ok()
        assert approved["requestId"] == asked.request_id
        shown = (await operator.get(f"/v1/devices/{device.device_id}")).ok()
        assert approved["device"] | {"connected": False, "replicas": []} == shown
        assert await operator.pending_ids() == []
        assert (await here.admit(device.asks())).token_scopes == ["operator.read"]

    async def test_again_is_the_same_and_nothing_is_done(
        self, here: Replica, operator: Operator
    ) -> None:
        asked = await here.request(Device.new().asks())
        first = (await operator.approve(asked.request_id)).ok()
        count = len(here.published)
        assert (await operator.approve(asked.request_id)).ok() == first
        assert len(here.published) == count
        assert [entry["action"] for entry in await operator.audit()] == ["requested", "approved"]

    async def test_an_unknown_request_cannot_be_approved(self, operator: Operator) -> None:
        reply = await operator.approve(UNKNOWN)
        assert reply.problem(404, "unknown-request") == {"requestId": UNKNOWN}

    async def test_a_rejected_request_cannot_be_approved(
        self, here: Replica, operator: Operator
    ) -> None:
        asked = await here.request(Device.new().asks())
        (await operator.post(f"/v1/requests/{asked.request_id}/reject")).ok()
        reply = await operator.approve(asked.request_id)
        assert reply.problem(409, "request-rejected") == {"requestId": asked.request_id}

    async def test_a_device_that_was_removed_since_is_reported(
        self, here: Replica, operator: Operator
    ) -> None:
        device = Device.new()
        asked = await here.request(device.asks())
        (await operator.approve(asked.request_id)).ok()
        (await operator.call("DELETE", f"/v1/devices/{device.device_id}")).ok()
        reply = await operator.approve(asked.request_id)
        assert reply.problem(409, "request-approved") == {"requestId": asked.request_id}
        assert isinstance(await here.answer(device.asks()), NeedsPairing)

    @pytest.mark.parametrize("lazily", [True, False])
    async def test_an_expired_request_cannot_be_approved(
        self, here: Replica, operator: Operator, clock: FakeClock, *, lazily: bool
    ) -> None:
        asked = await here.request(Device.new().asks())
        clock.advance(TTL_SECONDS)
        assert await operator.pending_ids() == []
        if not lazily:
            assert await here.expiry.end_void(10) == 1
            assert await here.expiry.end_void(10) == 0
        reply = await operator.approve(asked.request_id)
        assert reply.problem(410, "request-expired") == {"requestId": asked.request_id}

    async def test_a_refresh_keeps_it_from_expiring(
        self, here: Replica, operator: Operator, clock: FakeClock
    ) -> None:
        device = Device.new()
        asked = await here.request(device.asks())
        clock.advance(TTL_SECONDS - 1)
        await here.request(device.asks())
        clock.advance(TTL_SECONDS - 1)
        assert await here.expiry.end_void(10) == 0
        (await operator.approve(asked.request_id)).ok()

    async def test_what_had_expired_gets_a_new_id(
        self, here: Replica, operator: Operator, clock: FakeClock
    ) -> None:
        device = Device.new()
        old = await here.request(device.asks())
        clock.advance(TTL_SECONDS)
        new = await here.request(device.asks())
        assert new.request_id != old.request_id
        assert (await operator.approve(old.request_id)).problem(410, "request-expired")
        first, expired, requested = here.published
        assert (expired.request_id, requested.request_id) == (old.request_id, new.request_id)
        assert expired.previous_tag == first.change.tag
        assert requested.previous_tag == expired.change.tag
        assert [entry["action"] for entry in await operator.audit()] == [
            "requested",
            "expired",
            "requested",
        ]

    async def test_a_scope_of_no_requested_role_is_invalid(
        self, here: Replica, operator: Operator
    ) -> None:
        asked = await here.request(Device.new().asks(("node.run",)))
        members = (await operator.approve(asked.request_id)).problem(403, "invalid-scope")
        assert members == {"requestId": asked.request_id, "scope": "node.run"}

    async def test_a_scope_with_blanks_around_it_is_invalid(
        self, here: Replica, operator: Operator
    ) -> None:
        """Token scopes are trimmed, so no token would match a scope approved with blanks."""
        asked = await here.request(Device.new().asks(("operator.read ",)))
        members = (await operator.approve(asked.request_id)).problem(403, "invalid-scope")
        assert members == {"requestId": asked.request_id, "scope": "operator.read "}


class TestRejecting:
    async def test_rejecting_twice_gives_the_same_answer(
        self, here: Replica, operator: Operator
    ) -> None:
        device = Device.new()
        asked = await here.request(device.asks())
        for _ in range(2):
            reply = await operator.post(f"/v1/requests/{asked.request_id}/reject")
            assert reply.ok() == {"requestId": asked.request_id, "deviceId": device.device_id}
        assert [entry["action"] for entry in await operator.audit()] == ["requested", "rejected"]

    async def test_an_approved_request_cannot_be_rejected(
        self, here: Replica, operator: Operator
    ) -> None:
        device = Device.new()
        asked = await here.request(device.asks())
        (await operator.approve(asked.request_id)).ok()
        reply = await operator.post(f"/v1/requests/{asked.request_id}/reject")
        assert reply.problem(409, "request-approved") == {"requestId": asked.request_id}
        await here.admit(device.asks())

    async def test_an_unknown_request_cannot_be_rejected(self, operator: Operator) -> None:
        reply = await operator.post(f"/v1/requests/{UNKNOWN}/reject")
        assert reply.problem(404, "unknown-request") == {"requestId": UNKNOWN}

    async def test_an_upgrade_leaves_the_pairing(self, here: Replica, operator: Operator) -> None:
        device = Device.new()
        await here.pair(device)
        asked = await here.request(device.asks(ADMIN))
        (await operator.post(f"/v1/requests/{asked.request_id}/reject")).ok()
        await here.admit(device.asks())
        again = await here.request(device.asks(ADMIN))
        assert again.request_id != asked.request_id
