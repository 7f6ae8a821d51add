"""Every kind of refusal reaches operators within two heartbeats."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from services.approval.domain.refusal_reasons import REASONS
from services.approval.storage.heartbeats.refusals import ROWS_PER_ADDRESS
from services.gateway.replication.recent_refusals import REFUSALS_PER_ADDRESS_ENTRIES
from shared.device.identity import DeviceKey
from shared.device.profile import CLI, CLI_3, CONTROL_UI, CONTROL_UI_3, NODE_HOST, NODE_HOST_3
from tests.e2e.command.terminal import Terminal
from tests.support.attempts import alter, connect
from tests.support.websocket.first_frame import send_first_frame
from tools.support.actors import Operator, SimulatedDevice, pair
from tools.support.waiting import POLL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from shared.device.handshake import Challenge
    from shared.device.profile import Profile
    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack

BEAT_SECONDS: Final = 0.5
SOON_SECONDS: Final = 2 * BEAT_SECONDS + 4
"""Two heartbeats, with reserve for a busy machine."""
PROTOCOLS: Final = pytest.mark.parametrize("protocol", [4, 3])

pytestmark = pytest.mark.usefixtures("check_health")


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two of each, behind a proxy on this machine."""
    return start_stack(
        approvals=2,
        gateways=2,
        env={"TRUSTED_PROXIES": "127.0.0.1"},
        gateway_env={"BEAT_SECONDS": str(BEAT_SECONDS), "LEASE_SECONDS": "3"},
    )


@pytest.fixture(scope="module")
def addresses() -> Iterator[str]:
    """Return unused addresses."""
    return (f"198.51.{number // 250}.{number % 250 + 1}" for number in itertools.count())


def profile_of(protocol: int, four: Profile = CLI, three: Profile = CLI_3) -> Profile:
    return four if protocol == 4 else three


def signed(profile: Profile, **sent: Any) -> Callable[[Challenge], object]:
    """Return a function that makes a valid `connect` for a challenge."""
    return lambda challenge: connect(profile, challenge=challenge, **sent)


async def listed(stack: Stack, query: str = "") -> list[dict[str, Any]]:
    """Return the refusals shown by the second approval."""
    async with Operator(stack, stack.approvals[1]) as operator:
        found: list[dict[str, Any]] = (
            await operator.call("GET", f"refusals?limit=200{query}")
        ).ok()["refusals"]
        return found


async def shown(stack: Stack, reason: str, **having: object) -> dict[str, Any]:
    """Return the newest refusal with these fields, once it has this reason."""
    deadline = time.monotonic() + SOON_SECONDS
    while True:
        found = [item for item in await listed(stack) if having.items() <= item.items()]
        if found and found[0]["reason"] == reason:
            return found[0]
        assert time.monotonic() < deadline, (reason, having, found)
        await asyncio.sleep(POLL_SECONDS)


@dataclass(frozen=True)
class Case:
    """An attempt that is refused for a reason; `proven` is None without a device."""

    reason: str
    proven: bool | None
    change: Callable[[dict[str, Any]], object] | None = None
    sent: Mapping[str, Any] = field(default_factory=dict)
    text: bytes | None = None


def device(**change: object) -> Callable[[dict[str, Any]], object]:
    return lambda params: params["device"].update(change)


CASES: Final = (
    Case("not-json", None, text=b"{"),
    Case("invalid-frame", None, text=b"[]"),
    Case("not-connect", None, text=b'{"type":"req","id":"1","method":"health"}'),
    Case("invalid-params", None, lambda params: params.pop("client")),
    Case("invalid-role", False, lambda params: params.update(role="captain")),
    Case("protocol-mismatch", False, lambda params: params.update(minProtocol=9, maxProtocol=11)),
    Case("device-required", None, sent={"key": None, "token": None}),
    Case("token-mismatch", None, sent={"key": None, "token": "a wrong gateway token"}),
    Case("device-id-mismatch", False, device(id="0" * 64)),
    Case("device-signature-stale", False, device(signedAt=1)),
    Case("device-nonce-missing", False, device(nonce=" ")),
    Case("device-nonce-mismatch", False, device(nonce="another")),
    Case("device-signature", False, device(signature="AAAA")),
    Case("token-missing", True, sent={"token": None}),
    Case("bootstrap-token-invalid", True, sent={"token": None, "bootstrap_token": "b"}),
    Case("token-mismatch", True, sent={"token": "a wrong gateway token"}),
    Case("device-token-mismatch", True, sent={"token": None, "device_token": "an old one"}),
    Case("not-paired", True),
)


class TestEveryKind:
    @PROTOCOLS
    @pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.reason}-{case.proven}")
    async def test_each_kind_is_shown_with_its_reason(
        self, stack: Stack, addresses: Iterator[str], case: Case, protocol: int
    ) -> None:
        gateway, address, key = stack.gateways[0], next(addresses), DeviceKey.generate()

        def frame(challenge: Challenge) -> object:
            if case.text is not None:
                return case.text
            sent = {"key": key, "token": stack.gateway_token, **case.sent}
            made = connect(profile_of(protocol), challenge=challenge, **sent)
            return alter(made, case.change) if case.change else made

        await send_first_frame(gateway, frame, address=address)
        await send_first_frame(gateway, frame, address=address)
        reason = case.reason
        entry = await shown(stack, reason, remoteIp=address)
        while entry["count"] < 2:
            entry = await shown(stack, reason, remoteIp=address)
        assert entry["count"] == 2
        assert entry["replica"] == gateway.boot_id
        assert (entry["undecided"], entry["past"]) == (False, False)
        assert entry["title"] == REASONS[reason].title
        assert entry["remedy"] == REASONS[reason].remedy
        named = "0" * 64 if reason == "device-id-mismatch" else key.device_id
        if case.proven is None:
            assert "deviceId" not in entry
        else:
            assert (entry["deviceId"], entry["proven"]) == (named, case.proven)
            assert await listed(stack, f"&deviceId={named}") == [entry]
        if reason == "protocol-mismatch":
            assert entry["detail"] == "9 to 11"

    @PROTOCOLS
    async def test_a_page_of_another_origin_is_reported(
        self, stack: Stack, addresses: Iterator[str], protocol: int
    ) -> None:
        address, origin = next(addresses), "https://other.example"
        profile = profile_of(protocol, CONTROL_UI, CONTROL_UI_3)
        await send_first_frame(
            stack.gateways[1],
            lambda challenge: connect(profile, challenge=challenge),
            address=address,
            origin=origin,
        )
        entry = await shown(stack, "origin", remoteIp=address)
        assert (entry["proven"], entry["detail"], entry["clientId"]) == (
            False,
            origin,
            profile.client_id,
        )

    @PROTOCOLS
    async def test_a_lock_out_is_shown(
        self, stack: Stack, addresses: Iterator[str], protocol: int
    ) -> None:
        address, profile = next(addresses), profile_of(protocol, NODE_HOST, NODE_HOST_3)
        for number in range(12):  # at both gateways the last is refused by the lock-out
            wrong = signed(profile, key=None, token=f"wrong {number}")
            await send_first_frame(stack.gateways[number % 2], wrong, address=address)
        entry = await shown(stack, "rate-limited", remoteIp=address)
        assert entry["cause"] == "locked-out"


class TestOfADevice:
    @PROTOCOLS
    async def test_a_device_token_that_was_rotated_then_it_comes_back(
        self, stack: Stack, operator: Operator, protocol: int
    ) -> None:
        client_device = await pair(stack, profile_of(protocol))
        (await operator.rotate(client_device.device_id)).ok()
        refused = await client_device.expect_refusal(stack.gateways[1], with_gateway_token=False)
        assert refused.detail_code == "AUTH_DEVICE_TOKEN_MISMATCH"
        await shown(stack, "device-token-mismatch", deviceId=client_device.device_id, past=False)
        path = f"devices/{client_device.device_id}"
        card = (await operator.call("GET", path)).ok()
        assert card["lastRefusal"]["reason"] == "device-token-mismatch"
        assert card["lastRefusal"]["replica"] == stack.gateways[1].boot_id
        await client_device.connect_once(stack.gateways[0])
        await shown(stack, "device-token-mismatch", deviceId=client_device.device_id, past=True)
        assert (await operator.call("GET", path)).ok()["lastRefusal"]["past"]

    @PROTOCOLS
    async def test_claims_without_the_key_do_not_change_a_devices_reason(
        self, stack: Stack, operator: Operator, addresses: Iterator[str], protocol: int
    ) -> None:
        client_device = await pair(stack, profile_of(protocol))
        (await operator.rotate(client_device.device_id)).ok()
        await client_device.expect_refusal(stack.gateways[0], with_gateway_token=False)
        thief, address = DeviceKey.generate(), next(addresses)
        for gateway in stack.gateways * 3:
            await send_first_frame(
                gateway,
                lambda challenge: alter(
                    connect(profile_of(protocol), key=thief, challenge=challenge),
                    device(id=client_device.device_id),
                ),
                address=address,
            )
        claim = await shown(
            stack, "device-id-mismatch", deviceId=client_device.device_id, proven=False
        )
        assert claim["remoteIp"] == address
        await shown(stack, "device-token-mismatch", deviceId=client_device.device_id, proven=True)
        card = (await operator.call("GET", f"devices/{client_device.device_id}")).ok()
        assert card["lastRefusal"]["reason"] == "device-token-mismatch"
        assert card["lastRefusedClaim"]["reason"] == "device-id-mismatch"

    @PROTOCOLS
    async def test_requests_for_more_are_shown_with_their_reason(
        self, stack: Stack, operator: Operator, protocol: int
    ) -> None:
        client_device = await pair(stack, profile_of(protocol).with_scopes("operator.read"))
        profile = client_device.profile
        for reason, wish in (
            ("scope-upgrade", profile.with_scopes("operator.admin")),
            ("role-upgrade", replace(profile, role="node", scopes=())),
            ("metadata-upgrade", replace(profile, platform="another")),
        ):
            request_id = await replace(client_device, profile=wish).request_pairing(
                stack.gateways[0]
            )
            entry = await shown(stack, reason, deviceId=client_device.device_id)
            assert entry["detail"] == request_id
            waiting = [
                request["lastRefusal"]["reason"]
                for request in await operator.pending()
                if request["requestId"] == request_id
            ]
            assert waiting == [reason]
        held = replace(client_device, profile=profile.with_scopes("operator.admin"))
        await held.expect_refusal(stack.gateways[0], with_gateway_token=False)
        await shown(stack, "scope-mismatch", deviceId=client_device.device_id)

    @pytest.mark.usefixtures("restore_stack")
    @PROTOCOLS
    async def test_what_nobody_could_decide_is_shown_as_that(
        self, stack: Stack, protocol: int
    ) -> None:
        client_device = await pair(stack, profile_of(protocol))
        for approval in stack.approvals:
            approval.pause()
        refused = await client_device.expect_refusal(stack.gateways[0])
        assert refused.code == "UNAVAILABLE"
        for approval in stack.approvals:
            approval.resume()
        deadline = time.monotonic() + 15
        found: list[dict[str, Any]] = []
        while not found:
            assert time.monotonic() < deadline
            found = await listed(stack, f"&deviceId={client_device.device_id}")
            found = [item for item in found if item["undecided"]]
        assert found[0]["reason"] == refused.details["reason"]
        assert found[0]["proven"]

    async def test_the_command_says_why_and_what_to_do(
        self, stack: Stack, operator: Operator
    ) -> None:
        client_device = await pair(stack, replace(CLI, display_name="Kitchen Mac"))
        (await operator.rotate(client_device.device_id)).ok()
        await client_device.expect_refusal(stack.gateways[1], with_gateway_token=False)
        await shown(stack, "device-token-mismatch", deviceId=client_device.device_id)
        terminal = Terminal(stack)
        for who in (client_device.device_id[:12], "kitchen mac"):
            output = await terminal.run("devices", "why", who)
            assert output.code == 0
            assert "its device token is not valid" in output.out
            assert REASONS["device-token-mismatch"].remedy in output.out
            assert stack.gateways[1].boot_id[:12] in output.out
        listed = await terminal.run("devices", "list")
        assert "ago: its device token is not valid" in listed.out

    async def test_it_is_in_no_audit_log(self, stack: Stack, operator: Operator) -> None:
        client_device = await pair(stack)
        before = await operator.audit(client_device.device_id)
        (await operator.revoke(client_device.device_id)).ok()
        await client_device.expect_refusal(stack.gateways[0], with_gateway_token=False)
        await shown(stack, "device-token-mismatch", deviceId=client_device.device_id)
        assert await operator.audit(client_device.device_id) == [*before, "revoked"]


class TestAFlood:
    async def test_a_flood_of_invented_devices_hides_no_others(
        self, stack: Stack, addresses: Iterator[str]
    ) -> None:
        gateway, flood, honest = stack.gateways[0], next(addresses), next(addresses)
        client_device = SimulatedDevice(stack)
        keys = [DeviceKey.generate() for _ in range(4 * REFUSALS_PER_ADDRESS_ENTRIES)]

        async def stream(share: list[DeviceKey]) -> None:
            for key in share:
                await send_first_frame(gateway, signed(CLI, key=key, token=None), address=flood)

        await asyncio.gather(
            *(stream(keys[number::8]) for number in range(8)),
            send_first_frame(
                gateway, signed(CLI, key=client_device.key, token=None), address=honest
            ),
        )
        await shown(stack, "token-missing", remoteIp=honest, deviceId=client_device.device_id)
        await shown(stack, "token-missing", remoteIp=flood)
        found = await listed(stack)
        assert sum(item.get("remoteIp") == flood for item in found) <= ROWS_PER_ADDRESS
