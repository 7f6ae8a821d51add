"""Setup codes over the HTTP API, at two replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from shared.rpc.messages import Admitted
from tests.integration.approval.api.named_operators import create as create_operator
from tests.integration.approval.setup_codes.phones import presents
from tests.support.approval.devices import Device
from tools.support.setup_codes import read_setup_code

if TYPE_CHECKING:
    from tests.integration.approval.operator import Operator
    from tests.integration.approval.replica import Replica

PATH = "/v1/setup-codes"
URL = "wss://gw.example.com"


@pytest.fixture(autouse=True)
async def alive(here: Replica, there: Replica) -> None:
    await here.store.liveness.write_alive("here")
    await there.store.liveness.write_alive("there")


async def create(operator: Operator, **body: Any) -> Any:
    reply = await operator.call("POST", PATH, json={"gatewayUrl": URL, **body})
    assert reply.status == 200, reply.text
    assert reply.headers["Cache-Control"] == "no-store"
    return reply.body


async def test_from_creation_to_the_paired_device(
    operator: Operator, elsewhere: Operator, there: Replica
) -> None:
    with capture_logs() as logs:
        made = await create(operator, profile="limited")
    code = read_setup_code(made["setupCode"])
    assert code["bootstrapToken"] not in str(logs)
    assert made["setupCode"] not in str(logs)
    assert made["qrDataUrl"].startswith("data:image/png;base64,")
    setup_id = made["created"]["setupId"]
    listed = (await elsewhere.call("GET", PATH)).body["setupCodes"]
    assert listed == [made["created"]]
    assert (listed[0]["state"], listed[0]["createdBy"]) == ("live", "operator:admin")
    assert code["bootstrapToken"] not in str(listed)
    phone = Device.new()
    answer = await there.answer(presents(phone, code["bootstrapToken"]))
    assert isinstance(answer, Admitted)
    await there.setup_codes.report_delivery(setup_id, delivered=True)
    shown = (await operator.call("GET", f"{PATH}/{setup_id}")).body
    assert (shown["state"], shown["delivered"], shown["deviceName"]) == ("used", True, "Pixel")
    assert shown["deviceId"] == phone.device_id
    assert (await operator.call("GET", PATH)).body == {"setupCodes": []}


async def test_revoke_one_and_all(operator: Operator, elsewhere: Operator) -> None:
    made = [await create(operator) for _ in range(3)]
    path = f"{PATH}/{made[0]['created']['setupId']}"
    assert (await elsewhere.call("POST", f"{path}/revoke")).body["revoked"]["state"] == "revoked"
    assert (await operator.call("POST", f"{path}/revoke")).status == 200
    all_of_them = (await elsewhere.call("POST", "/v1/setup-code-revocations")).body["revoked"]
    assert {one["setupId"] for one in all_of_them} == {
        one["created"]["setupId"] for one in made[1:]
    }
    (await operator.call("POST", f"{PATH}/nope/revoke")).problem(404, "unknown-setup-code")
    (await operator.call("GET", f"{PATH}/nope")).problem(404, "unknown-setup-code")


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({}, 409, "no-gateway-url"),
        ({"gatewayUrl": "ws://gw.example.com"}, 409, "insecure-gateway-url"),
        ({"gatewayUrl": "ftp://x"}, 409, "invalid-gateway-url"),
        ({"gatewayUrl": URL, "joinUrl": True}, 409, "no-join-url"),
        ({"gatewayUrl": "ws://10.0.0.1", "profile": "node", "joinUrl": True}, 409, "no-join-url"),
        ({"gatewayUrl": URL, "profile": "admin"}, 400, "malformed"),
        ({"gatewayUrl": URL, "access": "full"}, 400, "malformed"),
    ],
)
async def test_problems(operator: Operator, body: Any, status: int, kind: str) -> None:
    (await operator.call("POST", PATH, json=body)).problem(status, kind)


async def test_who_only_views_creates_none(operator: Operator) -> None:
    viewer = await create_operator(operator, "viewer", "view")
    reply = await operator.call("POST", PATH, json={"gatewayUrl": URL}, headers=viewer)
    reply.problem(403, "not-allowed")
    assert (await operator.call("GET", PATH, headers=viewer)).status == 200
