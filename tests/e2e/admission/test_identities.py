"""What a device reports about itself: what changes it, who approves that, and what is shown."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from services.approval.storage.keys import HEAD, device_key
from shared.device.profile import CLI, CLI_3, NODE_HOST, NODE_HOST_3, Profile
from tests.e2e.callers import ADMINISTRATOR, Callers, both_protocols, found, listed_so
from tests.e2e.command.terminal import Terminal
from tools.support.actors import Operator, SimulatedDevice, pair

if TYPE_CHECKING:
    from tests.conftest import StartStack
    from tests.e2e.callers import Caller
    from tools.support.processes.stack import Stack

pytestmark = pytest.mark.usefixtures("no_lockouts")

PHONE = replace(
    CLI,
    client_id="openclaw-ios",
    mode="ui",
    platform="iOS 26.4.2",
    device_family="iPhone",
    display_name="Phone",
)
INSTALLATIONS = [(CLI, NODE_HOST), (CLI_3, NODE_HOST_3)]
"""The command line and the node host of one installation, which share a key."""
each_installation = pytest.mark.parametrize(
    "clients", [(item, replace(node, display_name="box")) for item, node in INSTALLATIONS], ids="43"
)


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two approvals and two gateways, for the whole module."""
    return start_stack(approvals=2, gateways=2)


def speaking(profile: Profile, protocol: int) -> Profile:
    return replace(profile, min_protocol=protocol, max_protocol=protocol)


def state(stack: Stack, device_id: str) -> tuple[Any, Any]:
    """Return the newest change and the device's record, which every commit changes."""
    record = stack.redis.call("GET", device_key(device_id))
    assert record, "it is paired"
    return stack.redis.call("GET", HEAD), record


async def waiting(operator: Operator, device_id: str) -> dict[str, Any]:
    """Return the only request of a device."""
    request: dict[str, Any] = found(await operator.pending(), device_id)
    return request


async def approved_by(way: str, stack: Stack, operator: Operator, request_id: str) -> None:
    """Approve by one of the available interfaces."""
    if way == "http":
        (await operator.approve(request_id)).ok()
    elif way == "command":
        ended = await Terminal(stack).run("devices", "approve", request_id, "--yes", "--no-wait")
        assert ended.code == 0, ended.err
    else:
        async with Callers(stack) as callers:
            caller = await callers.enter(ADMINISTRATOR, stack.gateways[1])
            await caller.call("device.pair.approve", requestId=request_id)


class TestOneKeyForTwoClients:
    @each_installation
    @pytest.mark.parametrize("way", ["http", "command", "socket"])
    async def test_a_request_for_both_roles_keeps_its_id_until_it_is_approved(
        self, stack: Stack, operator: Operator, clients: tuple[Profile, Profile], way: str
    ) -> None:
        cli, node = SimulatedDevice(stack, clients[0]), SimulatedDevice(stack, clients[1])
        node.key = cli.key
        await cli.request_pairing(stack.gateways[0])
        request_id = await node.request_pairing(stack.gateways[1])
        for _ in range(2):
            for gateway in stack.gateways:
                assert await cli.request_pairing(gateway) == request_id
                assert await node.request_pairing(gateway) == request_id

        request = await waiting(operator, cli.device_id)
        assert (request["requestId"], request["roles"]) == (request_id, ["operator", "node"])
        assert request["scopes"] == list(clients[0].scopes or ())
        shown = [(identity["role"], identity["clientId"]) for identity in request["identities"]]
        assert shown == [("node", "node-host"), ("operator", "cli")]
        assert request["identities"][0]["displayName"] == request["displayName"] == "box"

        await approved_by(way, stack, operator, request_id)
        for gateway in stack.gateways:
            await cli.connect_once(gateway)
            await node.connect_once(gateway)
        assert await operator.audit(cli.device_id) == ["requested", "requested", "approved"]

    @each_installation
    async def test_an_upgrade_of_a_paired_device_keeps_its_id(
        self, stack: Stack, operator: Operator, clients: tuple[Profile, Profile]
    ) -> None:
        cli = await pair(stack, clients[0].with_scopes("operator.read"))
        node = replace(cli, profile=clients[1])
        wider = cli.with_scopes("operator.read", "operator.approvals")
        await node.request_pairing(stack.gateways[0])
        request_id = await wider.request_pairing(stack.gateways[1])
        for gateway in stack.gateways:
            assert await node.request_pairing(gateway) == request_id
            assert await wider.request_pairing(gateway) == request_id
            await cli.connect_once(gateway)
        (await operator.approve(request_id)).ok()
        await node.connect_once(stack.gateways[0])
        await wider.connect_once(stack.gateways[1])


class TestUpdates:
    @pytest.mark.parametrize("protocol", [4, 3])
    async def test_a_new_version_of_its_system_needs_no_approval_and_is_shown(
        self, stack: Stack, callers: Callers, protocol: int
    ) -> None:
        phone = await pair(stack, speaking(PHONE, protocol))
        before = state(stack, phone.device_id)
        phone.profile = replace(phone.profile, platform="iOS 26.5.0")
        await phone.connect_once(stack.gateways[1])
        await phone.connect_once(stack.gateways[0], with_gateway_token=False)
        assert state(stack, phone.device_id) == before, "it is no change"
        caller = await callers.enter(ADMINISTRATOR, stack.gateways[1])
        shown = await listed_so(
            caller, phone.device_id, lambda item: item["platform"] == "iOS 26.5.0", "its version"
        )
        assert (shown["clientId"], shown["deviceFamily"]) == ("openclaw-ios", "iPhone")
        async with Operator(stack, stack.approvals[1]) as second:
            entry = (await second.call("GET", f"devices/{phone.device_id}")).ok()
        assert entry["platform"] == "iOS 26.5.0"

    @pytest.mark.parametrize("protocol", [4, 3])
    @pytest.mark.parametrize(
        ("before", "now"),
        [
            (PHONE, replace(PHONE, platform="iOS 26.5.0", device_family="iPad")),
            (PHONE, replace(PHONE, platform="Android 16")),
            (CLI, replace(CLI, platform="darwin")),
        ],
        ids=["family", "system", "cli"],
    )
    async def test_another_system_or_family_does(
        self, stack: Stack, before: Profile, now: Profile, protocol: int
    ) -> None:
        device = await pair(stack, speaking(before, protocol))
        device.profile = speaking(now, protocol)
        refused = await device.expect_refusal(stack.gateways[1])
        assert refused.details["reason"] == "metadata-upgrade"

    @pytest.mark.parametrize(("before", "after"), [("darwin", "macos"), ("windows", "win32")])
    @pytest.mark.parametrize("profile", [NODE_HOST, NODE_HOST_3], ids="43")
    async def test_names_of_one_runtime_are_the_same(
        self, stack: Stack, profile: Profile, before: str, after: str
    ) -> None:
        named = replace(profile, platform=before, device_family=None)
        node = await pair(stack, named)
        node.profile = replace(named, platform=after)
        await node.connect_once(stack.gateways[1])


class TestWhatWasShown:
    @both_protocols
    async def test_a_request_that_shows_something_else_has_another_id(
        self, stack: Stack, operator: Operator, profile: Profile
    ) -> None:
        device = SimulatedDevice(stack, replace(profile, display_name="Kitchen Mac"))
        old = await device.request_pairing(stack.gateways[0])
        shown = await waiting(operator, device.device_id)
        device.profile = replace(
            device.profile, display_name="Other", platform="darwin", client_id="openclaw-tui"
        )
        new = await device.request_pairing(stack.gateways[1])
        assert new != old == shown["requestId"]
        reply = await operator.approve(old)
        assert (reply.status, reply.body["successorRequestId"]) == (409, new)
        again = await waiting(operator, device.device_id)
        assert [identity["displayName"] for identity in again["identities"]] == [
            "Other",
            "Kitchen Mac",
        ]
        approved = (await operator.approve(new)).ok()["device"]
        assert approved["identities"] == again["identities"]

    async def test_a_device_that_flips_its_name_can_be_approved_and_fills_no_log(
        self, stack: Stack, operator: Operator
    ) -> None:
        client_device = SimulatedDevice(stack)
        ids = []
        for number in range(12):
            client_device.profile = replace(CLI, display_name=f"name {number}")
            ids.append(await client_device.request_pairing(stack.gateways[number % 2]))
        assert ids[3:] == [ids[-1]] * 9
        assert await operator.audit(client_device.device_id) == ["requested"] * 4
        shown = await waiting(operator, client_device.device_id)
        assert shown["requestId"] == ids[-1]
        device = (await operator.approve(ids[-1])).ok()["device"]
        assert device["displayName"] == shown["displayName"] == "name 3"
        await client_device.connect_once(stack.gateways[0])


class TestNames:
    @staticmethod
    async def named(caller: Caller, device: SimulatedDevice, name: str) -> None:
        """Wait until the list shows this name."""
        await listed_so(
            caller, device.device_id, lambda item: item["displayName"] == name, f"the name {name}"
        )

    @both_protocols
    async def test_a_name_that_changes_at_each_connect_commits_nothing_and_is_shown(
        self, stack: Stack, operator: Operator, callers: Callers, profile: Profile
    ) -> None:
        device = await pair(stack, replace(profile, display_name="name 0"))
        caller = await callers.enter(ADMINISTRATOR, stack.gateways[0])
        before = state(stack, device.device_id)
        audit = await operator.audit(device.device_id)
        for number in range(1, 7):
            device.profile = replace(profile, display_name=f"name {number}")
            options = {"with_gateway_token": number % 3 > 0}
            if number == 6:  # two gateways' heartbeats order visits only if they are apart
                await self.named(caller, device, "name 5")
            await device.connect_once(stack.gateways[number % 2], **options)
        await self.named(caller, device, "name 6")
        assert state(stack, device.device_id) == before
        assert await operator.audit(device.device_id) == audit
        entry = (await operator.call("GET", f"devices/{device.device_id}")).ok()
        assert entry["displayName"] == "name 6"
        listed = await Terminal(stack).run("devices", "list")
        assert "name 6" in listed.out
