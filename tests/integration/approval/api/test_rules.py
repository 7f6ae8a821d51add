"""Approval rules over the API: added, listed, tried out and removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from services.approval.domain.authorization import OPERATOR
from services.approval.domain.rules import RULES_LIMIT
from tests.support.approval.devices import Device

if TYPE_CHECKING:
    from tests.integration.approval.operator import Operator
    from tests.integration.approval.replica import Replica

HOUR_MS = 3_600_000
pytestmark = pytest.mark.usefixtures("alive")
RUN = ("node.run",)


@pytest.fixture
async def alive(here: Replica) -> None:
    """Let the replica learn the clock of Redis."""
    await here.store.liveness.write_alive("here")


def body(here: Replica, **other: Any) -> dict[str, Any]:
    return {
        "name": "kiosks",
        "role": "node",
        "scopes": ["node.run"],
        "networks": ["192.0.2.0/24"],
        "count": 2,
        "expiresAtMs": here.store.now_ms() + HOUR_MS,
        **other,
    }


async def test_a_rule_is_added_listed_and_removed(here: Replica, operator: Operator) -> None:
    sent = body(here)
    added = (await operator.post("/v1/rules", sent)).ok()["rule"]
    assert added == {
        **sent,
        "deviceIds": [],
        "state": "active",
        "used": 0,
        "allowAdmin": False,
        "createdAtMs": here.store.now_ms(),
        "createdBy": "operator:admin",
    }
    assert (await operator.get("/v1/rules")).ok() == {"rules": [added]}
    (await operator.post("/v1/rules", sent)).problem(409, "rule-exists")
    await here.rulebook.refresh()
    for _ in range(2):
        await here.admit(Device.new().asks(RUN, role="node", address="192.0.2.7"))
    (listed,) = (await operator.get("/v1/rules")).ok()["rules"]
    assert (listed["used"], listed["state"]) == (2, "used-up")
    removed = (await operator.call("DELETE", "/v1/rules/kiosks")).ok()["removed"]
    assert removed["name"] == "kiosks"
    reply = await operator.call("DELETE", "/v1/rules/kiosks")
    assert reply.problem(404, "unknown-rule") == {}
    assert (await operator.get("/v1/rules")).ok() == {"rules": []}


@pytest.mark.parametrize("path", ["/v1/rules", "/v1/rule-trials"])
async def test_everything_that_is_wrong_is_said_at_once(
    here: Replica, operator: Operator, path: str
) -> None:
    wrong = body(here, networks=[], scopes=["operator.read"], expiresAtMs=1)
    reply = await operator.post(path, wrong)
    reply.problem(409, "invalid-rule")
    for part in ("give networks", "does not belong to the role node", "expiresAtMs"):
        assert part in reply.body["detail"]
    for malformed in ({"name": "<b>x</b>"}, {"count": 0}, {"role": "admin"}, {"deny": True}):
        (await operator.post(path, body(here, **malformed))).problem(400, "malformed")


async def test_there_is_a_limit(here: Replica, operator: Operator) -> None:
    for number in range(RULES_LIMIT):
        (await operator.post("/v1/rules", body(here, name=f"n{number}"))).ok()
    (await operator.post("/v1/rules", body(here, name="x"))).problem(409, "too-many-rules")


async def test_a_trial_shows_what_a_rule_would_approve_and_changes_nothing(
    here: Replica, operator: Operator
) -> None:
    inside, outside, past = Device.new(), Device.new(), Device.new()
    asked = await here.request(past.asks(RUN, role="node", address="192.0.2.9"))
    await here.registry.approve(OPERATOR, asked.request_id)
    waiting = await here.request(inside.asks(RUN, role="node", address="192.0.2.7"))
    await here.request(outside.asks(RUN, role="node", address="198.51.100.7"))
    await here.request(Device.new().asks(address="192.0.2.8"))
    found = (await operator.post("/v1/rule-trials", body(here))).ok()
    shown = {one["deviceId"]: one for one in found["pending"]}
    assert shown[inside.device_id] == {
        "requestId": waiting.request_id,
        "deviceId": inside.device_id,
        "role": "node",
        "scopes": ["node.run"],
        "address": "192.0.2.7",
        "atMs": here.store.now_ms(),
        "approved": True,
    }
    assert shown[outside.device_id]["uncovered"] == "network"
    assert {one.get("uncovered") for one in found["pending"]} == {None, "network", "role"}
    approved = [one["deviceId"] for one in found["past"] if one["approved"]]
    assert approved == [inside.device_id, past.device_id]
    assert len(await operator.pending_ids()) == 3
    assert (await operator.get("/v1/rules")).ok() == {"rules": []}
