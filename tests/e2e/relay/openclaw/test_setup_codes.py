"""A device with a setup code gets its tokens from the gateway, and is relayed when it reconnects."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from services.approval.domain.setup_codes import PROFILES
from shared.device.client import DeviceClient
from shared.device.handshake import Admitted, Credentials, Refused
from shared.device.profile import ANDROID
from shared.upstream import CLIENT_USER
from tests.e2e.relay.devices import RelayedDevice, new_device
from tools.support.setup_codes import read_setup_code
from tools.support.waiting import POLL_SECONDS, WAIT_SECONDS

if TYPE_CHECKING:
    from tools.support.actors import Operator
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack
    from tools.support.stub_openclaw import StubOpenClaw

ADMIN = "operator.admin"
LEAVES_AFTER_SECONDS = 0.5
BROKEN = {"code": "INTERNAL", "message": "not today", "details": {}, "retryable": False}


class Phone(RelayedDevice):
    """A phone that keeps the tokens it is given."""

    async def present(self, gateway: ServiceProcess, code: str) -> Any:
        """Connect with a setup code, and return the outcome; the gateway then closes."""
        async with self._with(gateway, Credentials(bootstrap_token=code)) as client:
            outcome = await client.connect()
            if isinstance(outcome, Admitted):
                self.token = outcome.device_token
                close = await client.closed()
                assert (close.code, close.reason) == (1012, "service restart")
            return outcome

    def _with(self, gateway: ServiceProcess, credentials: Credentials) -> DeviceClient:
        headers = {"X-Forwarded-For": self.address}
        return DeviceClient(
            gateway.ws_url, self.key, self.profile, credentials=credentials, headers=headers
        )


def new_phone(stack: Stack, address: str = "") -> Phone:
    """Return a phone with an address that no other test uses, or with this one."""
    phone = Phone(stack, profile=ANDROID)
    phone.address = address or new_device(stack).address
    return phone


async def admin_of(stack: Stack, operator: Operator) -> tuple[RelayedDevice, DeviceClient]:
    """Return a connected device that may create setup codes."""
    device = new_device(stack, ADMIN)
    (await operator.approve(await device.request_pairing(stack.gateways[0]))).ok()
    client, _ = await device.connect_when_ready(stack.gateways[0])
    return device, client


async def create(admin: DeviceClient, stack: Stack) -> tuple[str, str]:
    """Create a code; return its id and its token."""
    params = {"publicUrl": stack.gateways[1].ws_url, "includeQr": False}
    answer = await admin.call("device.pair.setupCode", params)
    assert answer.ok, answer
    token = read_setup_code(answer.payload["setupCode"])["bootstrapToken"]
    return answer.payload["setupId"], token


@pytest.mark.parametrize("address_is_known", [False, True])
async def test_a_phone_gets_its_tokens_and_is_relayed_with_them(
    stack: Stack, upstream: StubOpenClaw, operator: Operator, *, address_is_known: bool
) -> None:
    device, admin = await admin_of(stack, operator)
    # A known address gets the upstream's challenge, another one the gateway's own.
    gateway = stack.gateways[0]
    phone = new_phone(stack, device.address if address_is_known else "")
    setup_id, code = await create(admin, stack)

    admitted = await phone.present(gateway, code)

    assert isinstance(admitted, Admitted), admitted
    auth = admitted.hello["auth"]
    assert (auth["method"], auth["role"]) == ("bootstrap-token", "node")
    (more,) = auth["deviceTokens"]
    assert (more["role"], tuple(more["scopes"])) == ("operator", PROFILES["full"].scopes)
    assert phone.device_id not in upstream.paired
    assert (await completion(admin, setup_id))["deviceId"] == phone.device_id

    client, relayed = await phone.connect_when_ready(gateway, with_gateway_token=False)
    assert relayed.hello["auth"]["method"] == "device-token"
    assert phone.device_id in upstream.paired
    assert (await client.call("sessions.list", {})).payload["from"] == "upstream"
    operator_leg = new_phone(stack, phone.address)
    operator_leg.key, operator_leg.token = phone.key, more["deviceToken"]
    operator_leg.profile = ANDROID.with_role("operator", "operator.read")
    _client, leg = await operator_leg.connect_when_ready(gateway, with_gateway_token=False)
    assert (leg.role, leg.scopes) == ("operator", ("operator.read",))
    sent = [json.dumps([one.headers, one.connect, one.frames]) for one in upstream.sessions]
    assert len([one for one in upstream.sessions if one.user == CLIENT_USER]) >= 1
    assert not any(code in text for text in sent)

    again = await new_phone(stack).present(stack.gateways[1], code)
    assert isinstance(again, Refused)
    assert again.detail_code == "AUTH_BOOTSTRAP_TOKEN_INVALID"


async def test_a_phone_keeps_its_tokens_while_the_upstream_refuses(
    stack: Stack, upstream: StubOpenClaw, operator: Operator
) -> None:
    device, admin = await admin_of(stack, operator)
    setup_id, code = await create(admin, stack)
    upstream.refusal = BROKEN
    phone = new_phone(stack, device.address)
    admitted = await phone.present(stack.gateways[0], code)
    assert isinstance(admitted, Admitted), admitted
    assert (await completion(admin, setup_id))["deviceId"] == phone.device_id
    async with phone.client(stack.gateways[0], with_gateway_token=False) as client:
        assert isinstance(await client.connect(), Refused)
    upstream.refusal = None
    _, relayed = await phone.connect_when_ready(stack.gateways[0], with_gateway_token=False)
    assert relayed.hello["auth"]["method"] == "device-token"


async def test_a_phone_that_left_too_early_is_reported(stack: Stack, operator: Operator) -> None:
    _device, admin = await admin_of(stack, operator)
    setup_id, code = await create(admin, stack)
    phone = new_phone(stack)
    (approval,) = stack.approvals
    approval.pause()
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(LEAVES_AFTER_SECONDS):
                await phone.present(stack.gateways[0], code)
    finally:
        approval.resume()
    uncertain = await admin.next_event("device.pair.setup.deliveryUncertain")
    assert uncertain.payload["setupId"] == setup_id
    assert uncertain.payload["deviceId"] == phone.device_id


async def completion(admin: DeviceClient, setup_id: str) -> dict[str, Any]:
    """Return how a code was completed, once the gateway has reported that hello-ok was sent."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            answer = await admin.call("device.pair.setupStatus", {"setupId": setup_id})
            if found := answer.payload.get("completion"):
                return dict(found)
            await asyncio.sleep(POLL_SECONDS)
