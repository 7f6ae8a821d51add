"""Rejecting many requests in one call: exactly those named, each with its outcome."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from services.approval.api.parameters import REJECT_LIMIT_REQUESTS
from services.approval.domain.authorization import OPERATOR
from services.approval.domain.errors import NotAllowed
from shared.protocol.scopes import ADMIN, PAIRING
from tests.integration.approval.operator import Operator
from tests.support.approval.devices import Device

if TYPE_CHECKING:
    from tests.integration.approval.replica import Replica
    from tests.support.clock import FakeClock

ADDRESS = "203.0.113.9"
UNKNOWN = "00000000-0000-4000-8000-000000000000"


async def ask(here: Replica, count: int) -> list[tuple[Device, str]]:
    """Send requests of devices from one address."""
    found = []
    for _ in range(count):
        device = Device.new()
        found.append((device, (await here.request(device.asks(address=ADDRESS))).request_id))
    return found


async def reject(operator: Operator, *request_ids: str) -> dict[str, Any]:
    """Reject requests in one call; returns the answer."""
    reply = await operator.post("/v1/requests/reject", {"requestIds": list(request_ids)})
    answer: dict[str, Any] = reply.ok()
    return answer


async def test_exactly_the_named_ones_are_rejected_and_newer_ones_wait_on(
    here: Replica, operator: Operator
) -> None:
    shown = await ask(here, 5)
    ((_, newer),) = await ask(here, 1)
    answer = await reject(operator, *(request_id for _, request_id in shown))
    assert answer == {
        "rejected": [
            {"requestId": request_id, "deviceId": device.device_id} for device, request_id in shown
        ],
        "ended": [],
    }
    assert await operator.pending_ids() == [newer]
    entries = [entry for entry in await operator.audit() if entry["action"] == "rejected"]
    assert [entry["requestId"] for entry in entries] == [request_id for _, request_id in shown]
    assert {entry["actor"] for entry in entries} == {"operator:admin"}
    received = [item for item in here.published if item.kind == "rejected"]
    assert [item.request_id for item in received] == [request_id for _, request_id in shown]


async def test_again_is_the_same_and_nothing_is_done(here: Replica, operator: Operator) -> None:
    ids = [request_id for _, request_id in await ask(here, 3)]
    first = await reject(operator, *ids)
    count = len(here.published)
    assert await reject(operator, *ids, *ids) == first
    assert len(here.published) == count


async def test_ended_requests_are_left_alone_and_reported(
    here: Replica, operator: Operator, clock: FakeClock
) -> None:
    (device, superseded), (_, approved), (_, expires) = await ask(here, 3)
    await here.registry.approve(OPERATOR, approved)
    wider = await here.request(device.asks((ADMIN,), address=ADDRESS))
    clock.advance(here.registry._ttl_ms / 1000)
    await here.request(device.asks((ADMIN,), address=ADDRESS))
    newest = (await operator.pending_ids())[0]
    answer = await reject(operator, superseded, approved, expires, UNKNOWN, newest)
    assert [item["requestId"] for item in answer["rejected"]] == [newest]
    ended = {item.pop("requestId"): item for item in answer["ended"]}
    assert ended[superseded]["state"] == "superseded"
    assert ended[superseded]["successorRequestId"] == wider.request_id
    assert ended[approved] == {"state": "approved"}
    assert ended[expires] == {"state": "expired"}
    assert ended[UNKNOWN] == {"state": "unknown"}
    assert len((await operator.get("/v1/devices")).ok()["devices"]) == 1


async def test_what_is_approved_at_another_replica_meanwhile_is_not_rejected(
    here: Replica, there: Replica
) -> None:
    """Both run at once: each request ends once, and both callers get the same outcome."""
    ids = [request_id for _, request_id in await ask(here, 12)]
    async with Operator(here) as operator, Operator(there) as other:
        answer, *approvals = await asyncio.gather(
            reject(operator, *ids), *(other.approve(request_id) for request_id in ids)
        )
        approved = {
            request_id
            for request_id, reply in zip(ids, approvals, strict=True)
            if reply.status == 200
        }
        rejected = {item["requestId"] for item in answer["rejected"]}
        assert approved | rejected == set(ids)
        assert not approved & rejected
        assert {item["requestId"] for item in answer["ended"]} == approved
        ends = [entry for entry in await operator.audit() if entry["action"] != "requested"]
        assert len(ends) == len(ids)


async def test_as_many_as_one_call_takes(here: Replica, operator: Operator) -> None:
    ids = [f"{UNKNOWN[:-4]}{number:04d}" for number in range(REJECT_LIMIT_REQUESTS)]
    assert len((await reject(operator, *ids))["ended"]) == REJECT_LIMIT_REQUESTS
    for wrong in ([], [*ids, UNKNOWN], ["-"], [""], UNKNOWN, None):
        body: dict[str, Any] = {"requestIds": wrong}
        reply = await operator.post("/v1/requests/reject", body)
        reply.problem(400, "malformed")
    assert here.published == []


async def test_a_caller_who_sees_one_device_rejects_none_in_a_crowd(here: Replica) -> None:
    own = await here.paired(PAIRING)
    ids = [request_id for _, request_id in await ask(here, 2)]
    with pytest.raises(NotAllowed):
        await here.registry.reject_all(await here.socket(own, PAIRING), ids)
    assert len(await here.registry.pending(OPERATOR)) == 2


class TestAdmin:
    """Approving operator.admin can require an explicit confirmation."""

    async def test_an_approval_of_admin_without_agreement_is_refused(
        self, here: Replica, operator: Operator
    ) -> None:
        asked = await here.request(Device.new().asks((ADMIN,)))
        (shown,) = (await operator.get("/v1/requests")).ok()["pending"]
        assert shown["grantsAdmin"] is True
        path = f"/v1/requests/{asked.request_id}/approve"
        (await operator.post(path, {"allowAdmin": False})).problem(409, "grants-admin")
        assert await operator.pending_ids() == [asked.request_id]
        (await operator.post(path, {"allowAdmin": True})).ok()

    async def test_old_clients_approve_as_ever(self, here: Replica, operator: Operator) -> None:
        asked = await here.request(Device.new().asks((ADMIN,)))
        (await operator.approve(asked.request_id)).ok()

    async def test_what_gives_it_back_gives_it(self, here: Replica, operator: Operator) -> None:
        """A revocation between display and approval makes the same request grant more."""
        device = Device.new()
        await here.pair(device, ADMIN)
        asked = await here.request(device.asks((), role="node"))
        (shown,) = (await operator.get("/v1/requests")).ok()["pending"]
        assert "grantsAdmin" not in shown
        await here.registry.reject(OPERATOR, asked.request_id)
        await here.registry.revoke(OPERATOR, device.device_id, "operator")
        again = await here.request(device.asks(("operator.read",)))
        (shown,) = (await operator.get("/v1/requests")).ok()["pending"]
        assert shown["grantsAdmin"] is True
        path = f"/v1/requests/{again.request_id}/approve"
        (await operator.post(path, {"allowAdmin": False})).problem(409, "grants-admin")

    async def test_without_it_nothing_has_to_be_agreed_to(
        self, here: Replica, operator: Operator
    ) -> None:
        asked = await here.request(Device.new().asks())
        path = f"/v1/requests/{asked.request_id}/approve"
        (await operator.post(path, {"allowAdmin": False})).ok()
