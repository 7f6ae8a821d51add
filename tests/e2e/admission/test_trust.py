"""A stack whose gateways trust local clients."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from shared.device.client import DeviceClient
from shared.device.errors import UnreachableError
from shared.device.handshake import Admitted, Credentials, Refused
from shared.device.profile import CLI, CLI_3, NODE_HOST
from tools.support.actors import Operator, SimulatedDevice

if TYPE_CHECKING:
    from shared.device.profile import Profile
    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack

PAIRING = "operator.pairing"
WRONG_TOKENS = 12
"""More failures than lock an address out."""


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two gateways that trust local clients."""
    return start_stack(gateways=2, env={"GATEWAY_LOCAL_CLIENTS": "trust"})


def without_device(stack: Stack, profile: Profile, token: str) -> DeviceClient:
    """Return a client that has only a gateway token."""
    return DeviceClient(
        stack.gateways[0].ws_url, None, profile, credentials=Credentials(token=token)
    )


async def test_the_local_command_line_lists_and_approves_a_node(stack: Stack) -> None:
    newcomer = SimulatedDevice(stack, NODE_HOST)
    request_id = await newcomer.request_pairing(stack.gateways[1])
    async with without_device(
        stack, CLI.with_scopes("operator.admin"), stack.gateway_token
    ) as client:
        outcome = await client.connect()
        assert isinstance(outcome, Admitted), outcome
        assert list(outcome.scopes) == ["operator.admin"]
        listed: Any = (await client.call("device.pair.list")).payload
        assert request_id in [request["requestId"] for request in listed["pending"]]
        assert (await client.call("device.pair.approve", {"requestId": request_id})).ok
    await newcomer.connect_once(stack.gateways[0])


async def test_a_local_client_keeps_its_place_in_a_full_gateway(stack: Stack) -> None:
    gateway = stack.add_gateway(
        GATEWAY_CONNECTION_LIMIT="2",
        GATEWAY_CONNECTION_LIMIT_PER_ADDRESS="1",
        GATEWAY_PREAUTH_LIMIT_PER_ADDRESS="1",
    )
    credentials = Credentials(token=stack.gateway_token)
    async with AsyncExitStack() as clients:
        local, other = [
            await clients.enter_async_context(
                DeviceClient(gateway.ws_url, None, CLI, credentials=credentials)
            )
            for _ in range(2)
        ]
        for client in (local, other):  # neither counts as a client without a device
            assert isinstance(await client.connect(), Admitted)
        newcomer = await clients.enter_async_context(DeviceClient(gateway.ws_url, None))
        with pytest.raises(UnreachableError, match="HTTP 503"):
            await newcomer.open()
        for client in (local, other):
            assert (await client.call("health")).ok
    gateway.kill9()


@pytest.mark.parametrize(
    "name",
    [
        *("X-Forwarded-For", "X-Real-IP", "Forwarded", "Via", "X-Railway-Request-Id"),
        *("X-Envoy-External-Address", "X-Request-Start", "Tailscale-User-Login"),
    ],
)
async def test_a_client_behind_a_proxy_is_not_local_and_has_no_method(
    stack: Stack, name: str
) -> None:
    client = DeviceClient(
        stack.gateways[0].ws_url,
        None,
        CLI.with_scopes("operator.admin"),
        credentials=Credentials(token=stack.gateway_token),
        headers={name: "127.0.0.1"},
    )
    async with client:
        outcome = await client.connect()
        assert isinstance(outcome, Admitted), outcome
        assert outcome.scopes == ()
        for method in ("device.pair.list", "status"):
            response = await client.call(method, {})
            assert response.error is not None
            assert response.error["code"] == "FORBIDDEN"


async def test_wrong_tokens_lock_no_local_client_out(stack: Stack) -> None:
    for _ in range(WRONG_TOKENS):
        async with without_device(stack, CLI, "not the gateway token") as client:
            outcome = await client.connect()
        assert isinstance(outcome, Refused), outcome
        assert outcome.detail_code == "AUTH_TOKEN_MISMATCH"
    async with without_device(stack, CLI, stack.gateway_token) as client:
        assert isinstance(await client.connect(), Admitted)


@pytest.mark.parametrize("profile", [CLI_3, CLI], ids=["protocol 3", "protocol 4"])
async def test_a_local_device_pairs_silently(stack: Stack, profile: Profile) -> None:
    async with AsyncExitStack() as resources:
        operator = await resources.enter_async_context(Operator(stack, stack.approvals[0]))
        device = SimulatedDevice(stack, profile.with_scopes("operator.read"))
        await device.connect_once(stack.gateways[0])
        await device.with_scopes(PAIRING).connect_once(stack.gateways[1])
        assert await operator.audit(device.key.device_id) == ["approved", "approved"]
        (found,) = [
            item
            for item in (await operator.call("GET", "devices")).ok()["devices"]
            if item["deviceId"] == device.key.device_id
        ]
        assert found["approvedVia"] == "silent"
        assert found["scopes"] == ["operator.read", PAIRING]
