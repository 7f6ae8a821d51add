"""Setup codes with two gateways and two approvals, each step at another replica than the last."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest

from services.approval.domain.setup_codes import PROFILES
from shared.device.client import DeviceClient
from shared.device.handshake import Admitted, Credentials, Refused, connect_request
from shared.device.identity import DeviceKey
from shared.device.profile import ANDROID, CLI, NODE_HOST, Profile
from tools.support.setup_codes import read_setup_code

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import StartStack
    from tools.support.actors import Operator
    from tools.support.processes.stack import Stack

ADMIN: Final = "operator.admin"
PAIRING: Final = "operator.pairing"
INVALID: Final = "AUTH_BOOTSTRAP_TOKEN_INVALID"
INVALID_MESSAGE: Final = (
    "unauthorized: setup code invalid, expired, revoked, or already used (create a new code; review"
    " `openclaw devices list`)"
)
MAC: Final = replace(ANDROID, client_id="openclaw-macos", platform="macOS 26", device_family="Mac")
RACES: Final = 50

pytestmark = pytest.mark.usefixtures("no_lockouts")


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two of each."""
    return start_stack(approvals=2, gateways=2)


@pytest.fixture
async def admin(stack: Stack, operator: Operator) -> AsyncIterator[DeviceClient]:
    """Return a command line that is paired with operator.admin, at the first gateway."""
    key = DeviceKey.generate()
    profile = CLI.with_scopes(ADMIN, PAIRING)
    async with DeviceClient(
        stack.gateways[0].ws_url, key, profile, token=stack.gateway_token
    ) as asking:
        refused = await asking.connect()
    assert isinstance(refused, Refused)
    (await operator.approve(refused.request_id)).ok()
    async with DeviceClient(
        stack.gateways[0].ws_url, key, profile, token=stack.gateway_token
    ) as client:
        assert isinstance(await client.connect(), Admitted)
        yield client


async def create(admin: DeviceClient, stack: Stack, **params: Any) -> dict[str, Any]:
    """Create a code, and return the answer with its token."""
    params = {"publicUrl": stack.gateways[1].ws_url, "includeQr": False, **params}
    answer = await admin.call("device.pair.setupCode", params)
    assert answer.ok, answer
    return {
        **answer.payload,
        "token": read_setup_code(answer.payload["setupCode"])["bootstrapToken"],
    }


class Phone:
    """A device that presents a setup code."""

    def __init__(self, stack: Stack, profile: Profile = ANDROID) -> None:
        self.stack = stack
        self.profile = profile
        self.key = DeviceKey.generate()

    def client(self, gateway: int, code: str = "", **other: Any) -> DeviceClient:
        """Return a client with the code, or with other credentials."""
        profile = other.pop("profile", self.profile)
        credentials = Credentials(bootstrap_token=code or None, **other)
        url = self.stack.gateways[gateway].ws_url
        return DeviceClient(url, self.key, profile, credentials=credentials)

    async def connect(self, gateway: int, code: str = "", **other: Any) -> Any:
        """Connect, and return the outcome."""
        async with self.client(gateway, code, **other) as client:
            return await client.connect()

    async def admitted(self, gateway: int, code: str = "", **other: Any) -> Admitted:
        """Connect, and be admitted."""
        outcome = await self.connect(gateway, code, **other)
        assert isinstance(outcome, Admitted), outcome
        return outcome

    async def invalid(self, gateway: int, code: str, **other: Any) -> None:
        """Connect, and be refused as for every code that is not valid."""
        outcome = await self.connect(gateway, code, **other)
        assert isinstance(outcome, Refused), outcome
        assert (outcome.code, outcome.message) == ("INVALID_REQUEST", INVALID_MESSAGE)
        details = {name: one for name, one in outcome.details.items() if name != "connectionId"}
        assert details == {
            "code": INVALID,
            "authReason": "bootstrap_token_invalid",
            "canRetryWithDeviceToken": False,
            "recommendedNextStep": "review_auth_configuration",
        }
        assert outcome.close is not None
        assert (outcome.close.code, outcome.close.reason) == (1008, INVALID_MESSAGE[:120])


async def test_a_phone_is_paired_at_the_other_replica(stack: Stack, admin: DeviceClient) -> None:
    created = await create(admin, stack)
    phone = Phone(stack)
    admitted = await phone.admitted(1, created["token"])
    auth = admitted.hello["auth"]
    assert (auth["method"], auth["role"], auth["scopes"]) == ("bootstrap-token", "node", [])
    assert list(auth) == [
        "method",
        "role",
        "scopes",
        "deviceToken",
        "issuedAtMs",
        "deviceTokens",
    ]
    (operator,) = auth["deviceTokens"]
    assert (operator["role"], tuple(operator["scopes"])) == ("operator", PROFILES["full"].scopes)
    resolved = await admin.next_event("device.pair.resolved")
    assert resolved.payload["decision"] == "approved"
    assert resolved.payload["deviceId"] == phone.key.device_id
    completed = await admin.next_event("device.pair.setup.completed")
    expected = {
        "setupId": created["setupId"],
        "deviceId": phone.key.device_id,
        "deviceName": "Pixel Test",
        "access": "full",
    }
    assert {name: completed.payload[name] for name in expected} == expected
    status = await admin.call("device.pair.setupStatus", {"setupId": created["setupId"]})
    assert status.payload == {"completion": completed.payload}
    # Both tokens work, each at the other gateway; the operator's may create codes.
    as_operator = ANDROID.with_role("operator", ADMIN)
    await phone.admitted(0, device_token=auth["deviceToken"])
    async with phone.client(0, device_token=operator["deviceToken"], profile=as_operator) as second:
        outcome = await second.connect()
        assert isinstance(outcome, Admitted)
        assert outcome.hello["auth"]["method"] == "device-token"
        assert (await create(second, stack))["access"] == "full"
    await phone.invalid(0, created["token"])
    await Phone(stack).invalid(1, created["token"])


async def test_nodes_and_join_urls(stack: Stack, admin: DeviceClient) -> None:
    created = await create(admin, stack, joinUrl=True)
    url = created["joinUrl"]
    async with aiohttp.ClientSession() as http:

        async def fetch(method: str, at: str) -> tuple[int, Any]:
            async with http.request(method, at) as reply:
                assert reply.headers["Cache-Control"] == "no-store"
                text = await reply.text()
                return reply.status, json.loads(text) if text else None

        missing = (404, {"error": "not_found"})
        assert (await fetch("HEAD", url))[0] == 404
        for method, at in (
            ("POST", url),
            ("GET", f"{url}?x=1"),
            ("GET", f"{url[:-1]}"),
            ("GET", f"{url}/"),
        ):
            assert await fetch(method, at) == missing
        replies = await asyncio.gather(*(fetch("GET", url) for _ in range(4)))
        assert sorted(status for status, _body in replies) == [200, 404, 404, 404]
        payload = next(body for status, body in replies if status == 200)
    assert payload == read_setup_code(created["setupCode"])
    node = Phone(stack, NODE_HOST)
    admitted = await node.admitted(0, payload["bootstrapToken"])
    assert "deviceTokens" not in admitted.hello["auth"]
    await node.admitted(1, device_token=admitted.device_token)


async def test_join_urls_are_locked_out_after_ten_wrong_ones(
    stack: Stack, admin: DeviceClient
) -> None:
    created = await create(admin, stack, joinUrl=True)
    async with aiohttp.ClientSession() as http:
        for number in range(10):
            at = stack.gateways[number % 2].url
            async with http.get(f"{at}/j/{'x' * 21}{number}") as reply:
                assert reply.status == 404
        async with http.get(created["joinUrl"]) as reply:
            assert (reply.status, await reply.json()) == (429, {"error": "rate_limited"})
            assert 290 < int(reply.headers["Retry-After"]) <= 300


async def test_no_match_waits_for_approval(
    stack: Stack, admin: DeviceClient, operator: Operator
) -> None:
    created = await create(admin, stack)
    mac = Phone(stack, MAC)
    waiting = await mac.connect(0, created["token"])
    assert isinstance(waiting, Refused)
    assert waiting.detail_code == "PAIRING_REQUIRED"
    hints = ("recommendedNextStep", "retryable", "pauseReconnect")
    assert [waiting.details[name] for name in hints] == ["wait_then_retry", True, False]
    again = await mac.connect(1, created["token"])
    assert again.request_id == waiting.request_id
    await Phone(stack, MAC).invalid(1, created["token"])
    (await operator.approve(waiting.request_id)).ok()
    admitted = await mac.admitted(1, created["token"])
    assert "deviceTokens" not in admitted.hello["auth"]
    leg = MAC.with_role("operator", *PROFILES["full"].scopes)
    upgrade = await mac.connect(0, created["token"], profile=leg)
    assert isinstance(upgrade, Refused)
    assert upgrade.details["reason"] == "role-upgrade"
    assert "pauseReconnect" not in upgrade.details
    (await operator.approve(upgrade.request_id)).ok()
    await mac.admitted(1, created["token"], profile=leg)
    completed = await admin.next_event("device.pair.setup.completed")
    assert completed.payload["setupId"] == created["setupId"]
    await mac.invalid(0, created["token"])


async def test_rejection_revokes_the_code(stack: Stack, admin: DeviceClient) -> None:
    created = await create(admin, stack)
    mac = Phone(stack, MAC)
    waiting = await mac.connect(1, created["token"])
    rejected = await admin.call("device.pair.reject", {"requestId": waiting.request_id})
    assert rejected.ok
    await mac.invalid(0, created["token"])
    status = await admin.call("device.pair.setupStatus", {"setupId": created["setupId"]})
    assert status.payload == {}


async def test_the_order_of_checks(stack: Stack, admin: DeviceClient) -> None:
    """What fails before the code is looked at leaves it untouched."""
    created = await create(admin, stack)
    token, phone = created["token"], Phone(stack)
    async with phone.client(0, token) as client:
        challenge = await client.challenge()
        frame = _signed(client, challenge)
        frame["params"]["device"]["signature"] = "AA"
        refused = await client.handshake(frame)
    assert isinstance(refused, Refused)
    assert refused.detail_code == "DEVICE_AUTH_SIGNATURE_INVALID"
    await Phone(stack).invalid(1, token, profile=ANDROID.with_role("node", "operator.read"))
    for field in ("device_token", "token"):
        wrong = await Phone(stack).connect(1, **{field: token})
        assert isinstance(wrong, Refused)
        assert wrong.detail_code in {"AUTH_DEVICE_TOKEN_MISMATCH", "AUTH_TOKEN_MISMATCH"}
    empty = await Phone(stack).connect(0, token=None)
    assert isinstance(empty, Refused)
    assert empty.detail_code == "AUTH_TOKEN_MISSING"
    # A wrong gateway token beside the code does not matter, nor does a right one.
    admitted = await phone.admitted(0, token)
    assert admitted.hello["auth"]["method"] == "bootstrap-token"
    other = (await create(admin, stack))["token"]
    both = Credentials(bootstrap_token=other, token=stack.gateway_token)
    async with DeviceClient(
        stack.gateways[1].ws_url, DeviceKey.generate(), ANDROID, credentials=both
    ) as client:
        outcome = await client.connect()
    assert isinstance(outcome, Admitted)
    assert outcome.hello["auth"]["method"] == "bootstrap-token"


def _signed(client: DeviceClient, challenge: Any) -> dict[str, Any]:
    return connect_request(challenge, client.key, client.profile, client.credentials)


async def test_wider_rights_close_the_sockets_of_the_device(
    stack: Stack, admin: DeviceClient
) -> None:
    phone = Phone(stack)
    limited = await create(admin, stack, bootstrapProfile="limited")
    async with phone.client(0, limited["token"]) as first:
        assert isinstance(await first.connect(), Admitted)
        full = await create(admin, stack)
        async with phone.client(1, full["token"]) as second:
            assert isinstance(await second.connect(), Admitted)
            closed = await first.closed()
            assert (closed.code, closed.reason) == (4001, "device removed")
            assert second.is_open


async def test_lock_out_of_codes(stack: Stack, admin: DeviceClient) -> None:
    created = await create(admin, stack)
    phone = Phone(stack)
    for number in range(10):
        await Phone(stack).invalid(number % 2, f"{number}" * 43)
    locked = await phone.connect(1, created["token"])
    assert isinstance(locked, Refused)
    assert locked.detail_code == "AUTH_RATE_LIMITED"
    assert locked.retry_after_ms is not None
    assert 290_000 < locked.retry_after_ms <= 300_000
    # The gateway token of the same address keeps working, beside the code as well.
    waiting = await phone.connect(0, created["token"], token=stack.gateway_token)
    assert isinstance(waiting, Refused)
    assert waiting.detail_code == "PAIRING_REQUIRED"


async def test_two_devices_race_for_one_code(stack: Stack, admin: DeviceClient) -> None:
    for _ in range(RACES):
        token = (await create(admin, stack))["token"]
        phones = Phone(stack), Phone(stack)
        outcomes = await asyncio.gather(
            *(phone.connect(at, token) for at, phone in enumerate(phones))
        )
        admitted = [one for one in outcomes if isinstance(one, Admitted)]
        refused = [one for one in outcomes if isinstance(one, Refused)]
        assert (len(admitted), [one.detail_code for one in refused]) == (1, [INVALID])


async def test_a_device_races_with_itself(stack: Stack, admin: DeviceClient) -> None:
    for _ in range(RACES):
        token = (await create(admin, stack))["token"]
        phone = Phone(stack)
        outcomes = await asyncio.gather(*(phone.connect(at, token) for at in range(2)))
        admitted = [one for one in outcomes if isinstance(one, Admitted)]
        assert len(admitted) == 1
        assert [one.detail_code for one in outcomes if isinstance(one, Refused)] == [INVALID]


async def test_a_client_that_is_gone_may_come_back(stack: Stack, admin: DeviceClient) -> None:
    """Until the code is used up, the same device may retry; the approval is not lost."""
    created = await create(admin, stack)
    mac = Phone(stack, MAC)
    async with mac.client(0, created["token"]) as client:
        await client.send_text(json.dumps(_signed(client, await client.challenge())))
    waiting = await mac.connect(1, created["token"])
    assert isinstance(waiting, Refused)
    assert waiting.detail_code == "PAIRING_REQUIRED"
