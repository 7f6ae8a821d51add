"""What becomes of a request when its device asks again (contract §7.3)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from services.approval import log_events
from shared.messages import Denied, NeedsPairing
from tests.unit.approval.devices import Device

if TYPE_CHECKING:
    from tests.integration.approval.operator import Operator
    from tests.integration.approval.replica import Replica
    from tests.support.clock import FakeClock

ADMIN = ("operator.admin",)


class TestAttack16:
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

    async def test_attack_21_with_another_key_a_paired_device_is_refused_and_somebody_told(
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
        (alert,) = [one for one in logs if one["event"] == log_events.KEY_MISMATCH.name]
        assert alert == {
            "event": log_events.KEY_MISMATCH.name,
            "log_level": "error",
            "device": device.device_id,
            "connection": stolen.call_id,
        }
        assert await operator.pending_ids() == [], "nobody can be made to approve it"
        assert (await operator.call("GET", f"/v1/devices/{device.device_id}")).ok() == before
        await here.admit(device.asks())

    async def test_attack_21_with_another_key_it_is_refused_and_the_old_one_stands(
        self, here: Replica, operator: Operator
    ) -> None:
        device = Device.new()
        asked = await here.request(device.asks())
        other = await here.answer(device.asks(public_key=Device.new().public_key))
        assert isinstance(other, Denied)
        assert other.why == "key-mismatch"
        approved = (await operator.approve(asked.request_id)).ok()
        assert approved["device"]["publicKey"] == device.public_key


class TestAttack15:
    """A device that asks every five seconds keeps one request, and writes next to nothing."""

    async def test_one_request_stays(
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
        assert await operator.pending_ids() == list({one.request_id for one in asked})
        assert len(await operator.audit()) == 1
