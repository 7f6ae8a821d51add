"""Lock-outs, and devices that share an address with misconfigured clients, in both protocols."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

from services.approval.domain.lockout import FAILURES_LIMIT
from shared.device.client import DeviceClient
from shared.device.handshake import Credentials
from shared.device.identity import DeviceKey
from shared.device.profile import CLI, CLI_3, Profile
from tests.e2e.command.terminal import Terminal
from tests.e2e.crowd import outcome_of
from tools.support.actors import Operator, SimulatedDevice, pair

if TYPE_CHECKING:
    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack

DEVICES: Final = 14
LOCKED_OUT: Final = "AUTH_RATE_LIMITED"
_addresses: Final = (f"192.0.2.{number}" for number in itertools.count(1))
"""A new one for each test, so that tests do not share state."""


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two approvals and two gateways, behind a proxy that forwards client addresses."""
    return start_stack(approvals=2, gateways=2, env={"TRUSTED_PROXIES": "127.0.0.1"})


@pytest.fixture(params=[CLI, CLI_3], ids=["protocol 4", "protocol 3"])
def profile(request: pytest.FixtureRequest) -> Profile:
    found: Profile = request.param
    return found


@dataclass
class Office:
    """All clients at one address, using the gateways in turn."""

    stack: Stack
    profile: Profile
    address: str = field(default_factory=lambda: next(_addresses))
    _attempts: int = 0

    async def comes(self, key: DeviceKey | None = None, **secrets: str) -> str:
        """Connect once with these secrets; returns the outcome."""
        gateways = self.stack.gateways
        gateway = gateways[self._attempts % len(gateways)]
        self._attempts += 1
        client = DeviceClient(
            gateway.ws_url,
            key,
            self.profile,
            credentials=Credentials(**{"token": None, **secrets}),
            headers={"X-Real-IP": self.address},
        )
        return await outcome_of(client)

    async def guess(self, times: int = FAILURES_LIMIT) -> None:
        """Guess the gateway token this often."""
        for number in range(times):
            assert await self.comes(token=f"guess {number}") == "AUTH_TOKEN_MISMATCH"

    async def comes_with_the_right_token(self) -> Counter[str]:
        """Connect to both gateways with the gateway token."""
        token = self.stack.gateway_token
        return Counter([await self.comes(token=token), await self.comes(token=token)])


@pytest.fixture
def office(stack: Stack, profile: Profile) -> Office:
    return Office(stack, profile)


async def devices(stack: Stack, profile: Profile, count: int) -> list[SimulatedDevice]:
    """Return paired devices."""
    return list(await asyncio.gather(*(pair(stack, profile) for _ in range(count))))


class TestStaleClients:
    async def test_an_outdated_gateway_token_beside_device_tokens_locks_nobody_out(
        self, stack: Stack, office: Office
    ) -> None:
        """The gateway token was changed, and many devices still send the old one."""
        for device in await devices(stack, office.profile, DEVICES):
            for _ in range(2):
                came = await office.comes(device.key, token="outdated", device_token=device.token)
                assert came == "admitted"
        assert await office.comes_with_the_right_token() == {"admitted": 2}
        stranger = await office.comes(DeviceKey.generate(), token=stack.gateway_token)
        assert stranger == "PAIRING_REQUIRED"

    async def test_an_outdated_gateway_token_alone_locks_nobody_out(
        self, stack: Stack, office: Office
    ) -> None:
        for _ in range(DEVICES):
            came = await office.comes(DeviceKey.generate(), token="outdated")
            assert came == "AUTH_TOKEN_MISMATCH"
        assert await office.comes_with_the_right_token() == {"admitted": 2}

    async def test_a_stale_device_token_locks_no_other_device_out(
        self, stack: Stack, office: Office
    ) -> None:
        stale, other = await devices(stack, office.profile, 2)
        for _ in range(3 * FAILURES_LIMIT):
            came = await office.comes(stale.key, device_token="stale")
            assert came == "AUTH_DEVICE_TOKEN_MISMATCH"
        assert await office.comes(other.key, device_token=other.token) == "admitted"
        assert await office.comes(stale.key, device_token=stale.token) == "admitted"

    async def test_one_that_is_sent_in_both_fields_locks_neither_out(
        self, stack: Stack, office: Office
    ) -> None:
        """The reference client does this."""
        stale, other = await devices(stack, office.profile, 2)
        for _ in range(3 * FAILURES_LIMIT):
            came = await office.comes(stale.key, token="stale", device_token="stale")
            assert came == "AUTH_DEVICE_TOKEN_MISMATCH"
        assert await office.comes(other.key, device_token=other.token) == "admitted"
        assert await office.comes_with_the_right_token() == {"admitted": 2}

    async def test_many_stale_device_tokens_lock_their_address_out_once_at_most(
        self, stack: Stack, office: Office
    ) -> None:
        """Fourteen exceed ten guesses; once known, they no longer count."""
        *stale, other = await devices(stack, office.profile, DEVICES + 1)
        seen = Counter(
            [await office.comes(question.key, device_token="stale") for question in stale]
        )
        wrong = "AUTH_DEVICE_TOKEN_MISMATCH"
        assert seen == {wrong: FAILURES_LIMIT, LOCKED_OUT: DEVICES - FAILURES_LIMIT}
        async with Operator(stack, stack.approvals[0]) as operator:
            path = f"lockouts/device-token/{office.address}"
            (await operator.call("DELETE", path)).ok()
        for _ in range(3):
            for question in stale:
                assert await office.comes(question.key, device_token="stale") == wrong
        assert await office.comes(other.key, device_token=other.token) == "admitted"


class TestGuesses:
    async def test_ten_different_ones_lock_out_at_both_gateways(self, office: Office) -> None:
        await office.guess()
        assert await office.comes_with_the_right_token() == {LOCKED_OUT: 2}

    async def test_ten_device_tokens_of_one_device_lock_out(
        self, stack: Stack, office: Office
    ) -> None:
        device, other = await devices(stack, office.profile, 2)
        for number in range(FAILURES_LIMIT):
            came = await office.comes(device.key, device_token=f"guess {number}")
            assert came == "AUTH_DEVICE_TOKEN_MISMATCH"
        assert await office.comes(device.key, device_token=device.token) == LOCKED_OUT
        assert await office.comes(other.key, device_token=other.token) == LOCKED_OUT

    async def test_a_token_and_a_password_are_two(self, stack: Stack, profile: Profile) -> None:
        """Protocol 3 has no password field, so it is not a guess there."""
        for key in (None, DeviceKey.generate()):
            office = Office(stack, profile)
            for number in range(FAILURES_LIMIT // 2):
                came = await office.comes(key, token=f"a {number}", password=f"b {number}")
                assert came == "AUTH_TOKEN_MISMATCH"
            came = await office.comes(key, token=stack.gateway_token)
            if profile is CLI:
                assert came == LOCKED_OUT
            else:
                assert came == ("admitted" if key is None else "PAIRING_REQUIRED")

    async def test_the_same_one_in_both_fields_is_one(self, office: Office) -> None:
        for number in range(FAILURES_LIMIT - 1):
            await office.comes(token=f"a {number}", password=f"a {number}")
        assert await office.comes_with_the_right_token() == {"admitted": 2}


class TestLifting:
    async def test_it_holds_at_every_gateway_at_once_and_ends_no_connection(
        self, stack: Stack, office: Office
    ) -> None:
        device = await pair(stack, office.profile)
        client, _ = await device.stay_connected(stack.gateways[0])
        async with client, Operator(stack, stack.approvals[1]) as operator:
            await office.guess()
            assert await office.comes_with_the_right_token() == {LOCKED_OUT: 2}
            listed = (await operator.call("GET", "lockouts")).ok()["lockouts"]
            (mine,) = [item for item in listed if item["address"] == office.address]
            assert (mine["credential"], mine["failures"]) == ("shared-secret", FAILURES_LIMIT)
            path = f"lockouts/shared-secret/{office.address}"
            assert (await operator.call("DELETE", path)).ok()["lifted"] == mine
            assert await office.comes_with_the_right_token() == {"admitted": 2}
            assert (await operator.call("DELETE", path)).status == 404
            assert (await client.call("health")).ok
            await device.connect_once(stack.gateways[1])

    async def test_a_lock_out_is_lifted_from_a_terminal(self, stack: Stack, office: Office) -> None:
        terminal = Terminal(stack)
        await office.guess()
        listed = await terminal.run("lockouts", "list")
        assert office.address in listed.out
        assert "gateway token" in listed.out
        asked = await terminal.run("lockouts", "lift", office.address)
        assert asked.code == 6
        lifted = await terminal.run("lockouts", "lift", office.address, "--yes")
        assert lifted.out == f"Lifted the lock-out of {office.address} (gateway token).\n"
        assert await office.comes_with_the_right_token() == {"admitted": 2}
        audit = (await terminal.run("audit", "--json")).json["entries"]
        found = [entry for entry in audit if entry.get("address") == office.address]
        assert [(item["action"], item["actor"]) for item in found] == [
            ("lockout-lifted", "operator:admin")
        ]


class TestAdminToken:
    async def test_a_header_of_another_scheme_counts_for_nothing_at_any_replica(
        self, stack: Stack
    ) -> None:
        address = {"X-Real-IP": next(_addresses)}
        async with aiohttp.ClientSession(headers=address) as http:
            for number in range(2 * FAILURES_LIMIT):
                url = f"{stack.approvals[number % 2].url}/v1/requests"
                basic = {"Authorization": aiohttp.encode_basic_auth("me", f"{number}")}
                async with http.get(url, headers=basic) as answer:
                    assert answer.status == 401
            for approval in stack.approvals:
                bearer = {"Authorization": f"Bearer {stack.admin_token}"}
                async with http.get(f"{approval.url}/v1/requests", headers=bearer) as answer:
                    assert answer.status == 200
