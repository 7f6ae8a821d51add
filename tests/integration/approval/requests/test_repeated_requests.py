"""What happens to a request when its device asks again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from structlog.testing import capture_logs

from services.approval import log_events
from shared.rpc.messages import Denied, NeedsPairing
from tests.support.approval.devices import Device

if TYPE_CHECKING:
    from tests.integration.approval.operator import Operator
    from tests.integration.approval.replica import Replica
    from tests.support.clock import FakeClock

ADMIN = ("operator.admin",)


class TestRequestChangedWhileShown:
    """The device asks for something else while the page shows the old request."""

    @pytest.mark.parametrize(
        ("scopes", "role"), [(("operator.read", *ADMIN), "operator"), (("operator.read",), "node")]
    )
    async def test_the_old_id_names_the_new(
        self, here: Replica, operator: Operator, scopes: tuple[str, ...], role: str
    ) -> None:
        device = Device.new()
        old = await here.request(device.asks())
        new = await here.request(device.asks(scopes, role=role))
        for action in ("approve", "reject"):
            reply = await operator.post(f"/v1/requests/{old.request_id}/{action}")
            assert reply.problem(409, "request-superseded") == {
                "requestId": old.request_id,
                "successorRequestId": new.request_id,
            }
        assert await operator.pending_ids() == [new.request_id]
        assert isinstance(await here.answer(device.asks()), NeedsPairing)

    async def test_with_another_key_a_paired_device_is_refused_and_operators_notified(
        self, here: Replica, operator: Operator
    ) -> None:
        device, thief = Device.new(), Device.new()
        await here.pair(device)
        before = (await operator.call("GET", f"/v1/devices/{device.device_id}")).ok()
        stolen = device.asks(public_key=thief.public_key)
        with capture_logs() as logs:
            answer = await here.answer(stolen)
        assert isinstance(answer, Denied)
        assert answer.why == "key-mismatch"
        (alert,) = [line for line in logs if line["event"] == log_events.KEY_MISMATCH.name]
        assert alert == {
            "event": log_events.KEY_MISMATCH.name,
            "log_level": "error",
            "device": device.device_id,
            "connection": stolen.call_id,
        }
        assert await operator.pending_ids() == [], "nobody can be made to approve it"
        assert (await operator.call("GET", f"/v1/devices/{device.device_id}")).ok() == before
        await here.admit(device.asks())

    async def test_with_another_key_it_is_refused_and_the_old_one_stands(
        self, here: Replica, operator: Operator
    ) -> None:
        device = Device.new()
        asked = await here.request(device.asks())
        other = await here.answer(device.asks(public_key=Device.new().public_key))
        assert isinstance(other, Denied)
        assert other.why == "key-mismatch"
        approved = (await operator.approve(asked.request_id)).ok()
        assert approved["device"]["publicKey"] == device.public_key


class TestRepeatedRequestsStayOne:
    """A device that asks every five seconds keeps one request, and writes next to nothing."""

    async def test_asking_again_keeps_the_same_request(
        self, here: Replica, operator: Operator, clock: FakeClock
    ) -> None:
        device = Device.new()
        ids = set()
        for _ in range(50):
            ids.add((await here.request(device.asks())).request_id)
            clock.advance(5)
        assert await operator.pending_ids() == list(ids)
        assert len(await operator.audit()) == 1

    async def test_a_burst_makes_one(self, here: Replica, operator: Operator) -> None:
        device = Device.new()
        asked = await asyncio.gather(*(here.request(device.asks()) for _ in range(20)))
        assert await operator.pending_ids() == list({request.request_id for request in asked})
        assert len(await operator.audit()) == 1


class TestWhatWasShown:
    """Ten seconds later, when a request may be updated, its device sends other data."""

    async def test_the_request_that_was_shown_is_superseded(
        self, here: Replica, operator: Operator, clock: FakeClock
    ) -> None:
        device = Device.new()
        old = await here.request(device.asks(name="Kitchen", address="203.0.113.9"))
        clock.advance(11)
        now = device.asks(name="Other", platform="darwin", client=("node-host", "node"))
        new = await here.request(now)
        reply = await operator.approve(old.request_id)
        assert reply.problem(409, "request-superseded")["successorRequestId"] == new.request_id
        (request,) = (await operator.get("/v1/requests")).ok()["pending"]
        both = [
            {
                "role": "operator",
                "clientId": "node-host",
                "clientMode": "node",
                "displayName": "Other",
                "platform": "darwin",
                "deviceFamily": "Linux",
            },
            {
                "role": "operator",
                "clientId": "cli",
                "clientMode": "cli",
                "displayName": "Kitchen",
                "platform": "linux",
                "deviceFamily": "Linux",
            },
        ]
        assert (request["displayName"], request["identities"]) == ("Other", both)
        approved = (await operator.approve(new.request_id)).ok()["device"]
        assert approved["identities"] == both
        await here.admit(now)
        await here.admit(device.asks(name="Kitchen"))

    async def test_nothing_that_is_shown_changes_under_an_id(
        self, here: Replica, operator: Operator, clock: FakeClock
    ) -> None:
        device = Device.new()
        phone: dict[str, Any] = {"client": ("openclaw-ios", "ui"), "family": "iPhone"}
        first = device.asks(platform="iOS 26.4.2", name="Phone", address="203.0.113.9", **phone)
        asked = await here.request(first)
        (before,) = (await operator.get("/v1/requests")).ok()["pending"]
        clock.advance(11)
        again = await here.request(
            device.asks(platform="iOS 26.5", address="198.51.100.7", **phone)
        )
        assert again.request_id == asked.request_id
        (after,) = (await operator.get("/v1/requests")).ok()["pending"]
        assert after == before | {"lastAskedAtMs": before["lastAskedAtMs"] + 11_000}
        (await operator.approve(asked.request_id)).ok()
        assert (await operator.get(f"/v1/devices/{device.device_id}")).ok()["remoteIp"] == (
            "203.0.113.9"
        )

    async def test_everybody_reads_all_that_a_new_request_shows(self, here: Replica) -> None:
        device = Device.new()
        await here.request(device.asks(name="Kitchen"))
        await here.request(device.asks(name="Other"))
        received = [msgspec.json.decode(change.request) for change in here.published]
        assert "identities" not in received[0]
        assert [identity["displayName"] for identity in received[1]["identities"]] == [
            "Other",
            "Kitchen",
        ]
