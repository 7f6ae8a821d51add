"""Results of the read methods, and the methods that hello-ok lists."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from services.approval.domain.authorization import OPERATOR
from services.approval.requests.methods import PACKED_FROM_BYTES
from shared.clock import SystemClock
from shared.device.profile import CLI, CLI_3, NODE_HOST, NODE_HOST_3, REFERENCE
from shared.protocol.events import events_of
from shared.protocol.methods import METHODS
from tests.e2e.callers import (
    ADMIN,
    ADMINISTRATOR,
    CLASSES,
    DEVICE_TOKEN,
    NOBODY,
    PAIRING,
    READ,
    SHARED_SECRET,
    WRITE,
    Callers,
    both_protocols,
    every_class,
    forbidden,
    found,
    invalid,
    listed_so,
    recent,
)
from tests.integration.approval.replica import replica
from tests.support.approval.devices import Device
from tools.support.actors import SimulatedDevice, pair
from tools.support.waiting import POLL_SECONDS, WAIT_SECONDS

if TYPE_CHECKING:
    from shared.device.profile import Profile
    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack

UNLISTED: Final = {"device.pair.setupCode", "device.pair.setupStatus"}
"""Served, and not listed, as by OpenClaw's own gateway."""
OF_PROTOCOL_4: Final = {"device.pair.rename", *UNLISTED}
SETUP_EVENTS: Final = {"device.pair.setup.completed", "device.pair.setup.deliveryUncertain"}


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two approvals and three gateways, for the whole module."""
    return start_stack(approvals=2, gateways=3, gateway_env={"BEAT_SECONDS": "0.3"})


class TestHello:
    """hello-ok lists exactly the methods and events that are served."""

    @both_protocols
    async def test_hello_lists_the_methods_that_are_served(
        self, stack: Stack, callers: Callers, profile: Profile
    ) -> None:
        device = await pair(stack, profile.with_scopes(ADMIN))
        client, admitted = await device.stay_connected(stack.gateways[0])
        async with client:
            features = admitted.hello["features"]
            every = {name for name in METHODS if profile is CLI or name not in OF_PROTOCOL_4}
            assert features["methods"] == sorted(every - UNLISTED)
            for method in sorted(every):
                response = await client.call(method, {})
                text = (response.error or {}).get("message", "")
                assert not text.startswith("unknown method"), method
            for method in METHODS.keys() - every:
                response = await client.call(method, {})
                assert response.error == invalid(f"unknown method: {method}")

    @both_protocols
    async def test_hello_lists_the_events_that_are_sent(
        self, stack: Stack, profile: Profile
    ) -> None:
        device = await pair(stack, profile.with_scopes(ADMIN))
        hello = (await device.connect_once(stack.gateways[0])).hello
        known = {
            *("connect.challenge", "device.pair.requested", "device.pair.resolved"),
            *("presence", "shutdown", "tick"),
        }
        if profile is CLI:
            known |= {"device.pair.changed", *SETUP_EVENTS}
        assert hello["features"]["events"] == sorted(known) == events_of(profile.max_protocol)


def reference(device: SimulatedDevice) -> dict[str, object]:
    """Return the expected list entry of a device that is the reference client."""
    return {
        "deviceId": device.device_id,
        "publicKey": device.key.public_key,
        "displayName": "Reference client",
        "platform": "linux",
        "deviceFamily": "Linux",
        "clientId": "gateway-client",
        "clientMode": "backend",
        "role": "operator",
        "roles": ["operator"],
    }


class TestList:
    @every_class
    async def test_the_objects_are_as_documented(
        self, stack: Stack, callers: Callers, kind: str
    ) -> None:
        caller = await callers.enter(kind, stack.gateways[0], REFERENCE)
        own = caller.device
        by_device_token = not CLASSES[kind].with_gateway_token

        def there(item: dict[str, Any]) -> bool:
            used = "lastUsedAtMs" in item["tokens"][0]
            return item["connected"] and "lastSeenAtMs" in item and used == by_device_token

        item = await listed_so(caller, own.device_id, there, "there")
        scopes = list(CLASSES[kind].scopes)
        token = item["tokens"][0]
        held = sorted({*scopes, READ, WRITE}) if ADMIN in scopes else sorted(scopes)
        used = {"lastUsedAtMs": token["lastUsedAtMs"]} if by_device_token else {}
        assert item == {
            **reference(own),
            "scopes": scopes,
            "approvedVia": "owner",
            "createdAtMs": item["createdAtMs"],
            "approvedAtMs": item["createdAtMs"],
            "lastSeenAtMs": item["lastSeenAtMs"],
            "lastSeenReason": item["lastSeenReason"],
            "connected": True,
            "tokens": [
                {"role": "operator", "scopes": held, "createdAtMs": item["createdAtMs"], **used}
            ],
        }
        assert all(recent(item[name]) for name in ("createdAtMs", "lastSeenAtMs"))
        assert item["lastSeenReason"] in {"connect", "device-token-auth"}

    @pytest.mark.parametrize("kind", [DEVICE_TOKEN, SHARED_SECRET])
    async def test_the_request_is_as_documented(
        self, stack: Stack, callers: Callers, kind: str
    ) -> None:
        caller = await callers.enter(kind, stack.gateways[0], REFERENCE)
        own = caller.device
        request_id = await own.with_scopes(WRITE).request_pairing(stack.gateways[1])
        pending = found((await caller.call("device.pair.list"))["pending"], own.device_id)
        assert pending == {
            "requestId": request_id,
            **reference(own),
            "scopes": [WRITE],
            "silent": False,
            "isRepair": True,
            "ts": pending["ts"],
        }
        assert recent(pending["ts"])

    async def test_what_is_not_known_is_left_out(self, stack: Stack, callers: Callers) -> None:
        caller = await callers.enter(ADMINISTRATOR, stack.gateways[0])
        nameless = SimulatedDevice(stack, replace(CLI, device_family=None))
        await nameless.request_pairing(stack.gateways[1])
        lists = await caller.call("device.pair.list")
        pending = found(lists["pending"], nameless.device_id)
        assert pending.keys() & {"displayName", "deviceFamily", "remoteIp"} == set()
        assert not pending["isRepair"]
        everything = [*lists["pending"], *lists["paired"]]
        assert not [item for item in everything if None in item.values()]
        assert not [device for device in lists["paired"] if "replicas" in device]

    async def test_a_device_that_is_away_is_listed_as_such(
        self, stack: Stack, callers: Callers
    ) -> None:
        caller = await callers.enter(SHARED_SECRET, stack.gateways[0])
        away = await pair(stack)
        await listed_so(caller, away.device_id, lambda item: not item["connected"], "away")
        client, _ = await away.stay_connected(stack.gateways[2])
        await listed_so(caller, away.device_id, lambda item: item["connected"], "connected")
        await client.close()
        await listed_so(caller, away.device_id, lambda item: not item["connected"], "away again")

    async def test_requests_are_listed_newest_first(self, stack: Stack, callers: Callers) -> None:
        caller = await callers.enter(ADMINISTRATOR, stack.gateways[0])
        for _ in range(3):
            await pair(stack)
            await SimulatedDevice(stack).request_pairing(stack.gateways[1])
        lists = await caller.call("device.pair.list")
        asked = [request["ts"] for request in lists["pending"]]
        approved = [device["approvedAtMs"] for device in lists["paired"]]
        assert asked == sorted(asked, reverse=True)
        assert approved == sorted(approved, reverse=True)

    async def test_a_device_token_lists_only_its_own_device(
        self, stack: Stack, callers: Callers
    ) -> None:
        caller = await callers.enter(DEVICE_TOKEN, stack.gateways[0])
        await pair(stack)
        await SimulatedDevice(stack).request_pairing(stack.gateways[1])
        lists = await caller.call("device.pair.list")
        assert [device["deviceId"] for device in lists["paired"]] == [caller.device_id]
        assert lists["pending"] == []
        assert lists.keys() == {"pending", "paired"}

    async def test_params_may_be_left_out(self, stack: Stack, callers: Callers) -> None:
        caller = await callers.enter(DEVICE_TOKEN, stack.gateways[0])
        listed = (await caller.client.call("device.pair.list")).payload
        assert [device["deviceId"] for device in listed["paired"]] == [caller.device_id]


READ_METHODS: Final = {
    "status": {},
    "system-presence": {},
    "node.list": {},
    "node.describe": {"nodeId": NOBODY},
}


class TestWhoIsThere:
    """The read methods cover all replicas and every connected device."""

    async def test_the_status_is_as_documented(self, stack: Stack, callers: Callers) -> None:
        caller = await callers.enter(DEVICE_TOKEN, stack.gateways[0], CLI, READ)
        await callers.enter(DEVICE_TOKEN, stack.gateways[1])
        until = time.monotonic() + WAIT_SECONDS
        while (text := await caller.call("status"))["connections"] < 2:
            assert time.monotonic() < until, text
            await asyncio.sleep(POLL_SECONDS)
        assert text.keys() == {
            *("ts", "runtimeVersion", "connectedDevices", "connections"),
            *("gateways", "approvals"),
        }
        assert recent(text["ts"])
        gateways = {gateway["bootId"] for gateway in text["gateways"]}
        assert gateways == {gateway.boot_id for gateway in stack.gateways}
        approvals = {approval["bootId"] for approval in text["approvals"]}
        assert approvals == {approval.boot_id for approval in stack.approvals}

    async def test_the_presence_is_as_documented(self, stack: Stack, callers: Callers) -> None:
        caller = await callers.enter(SHARED_SECRET, stack.gateways[0], CLI, READ)
        target = await callers.enter(DEVICE_TOKEN, stack.gateways[1], REFERENCE)
        tags = [f"gateway:{stack.gateways[1].boot_id}"]
        until = time.monotonic() + WAIT_SECONDS
        while True:
            entries = await caller.call("system-presence")
            there = [entry for entry in entries if entry.get("deviceId") == target.device_id]
            if [item["tags"] for item in there] == [tags]:  # elsewhere it was when it was paired
                break
            assert time.monotonic() < until, entries
            await asyncio.sleep(POLL_SECONDS)
        (one,) = there
        assert one == {
            "host": "Reference client",
            "platform": "linux",
            "deviceFamily": "Linux",
            "mode": "backend",
            "reason": one["reason"],
            "ts": one["ts"],
            "deviceId": target.device_id,
            "roles": ["operator"],
            "scopes": [READ, PAIRING],
            "tags": tags,
        }
        gateways = {entry["host"] for entry in entries if entry["mode"] == "gateway"}
        assert gateways == {gateway.boot_id for gateway in stack.gateways}

    @pytest.mark.parametrize("profile", [NODE_HOST, NODE_HOST_3], ids=["4", "3"])
    async def test_nodes_are_listed_and_described(
        self, stack: Stack, callers: Callers, profile: Profile
    ) -> None:
        caller = await callers.enter(DEVICE_TOKEN, stack.gateways[0], CLI, READ)
        node = await pair(stack, profile)
        await callers.stay(node, stack.gateways[1])
        until = time.monotonic() + WAIT_SECONDS
        while True:
            listed = await caller.call("node.list")
            assert listed.keys() == {"ts", "nodes"}
            (item,) = [entry for entry in listed["nodes"] if entry["nodeId"] == node.device_id]
            described = await caller.call("node.describe", nodeId=node.device_id)
            settled = item["connected"] and "lastSeenAtMs" in item
            if settled and described == {**item, "ts": described["ts"]}:
                break
            assert time.monotonic() < until, described
            await asyncio.sleep(POLL_SECONDS)
        assert item == {
            "nodeId": node.device_id,
            "platform": "linux",
            "clientId": "node-host",
            "clientMode": "node",
            "deviceFamily": "Linux",
            "caps": [],
            "commands": [],
            "lastSeenAtMs": item["lastSeenAtMs"],
            "lastSeenReason": "connect",
            "approvedAtMs": item["approvedAtMs"],
            "paired": True,
            "connected": True,
        }
        operators = [node for node in listed["nodes"] if node["nodeId"] == caller.device_id]
        assert operators == []

    async def test_a_node_that_is_not_there(self, stack: Stack, callers: Callers) -> None:
        caller = await callers.enter(DEVICE_TOKEN, stack.gateways[0])
        for node_id in (NOBODY, caller.device_id):
            error = await caller.fails("node.describe", nodeId=node_id)
            assert error == invalid("unknown nodeId")

    @pytest.mark.parametrize("method", READ_METHODS)
    async def test_read_methods_need_the_read_scope(
        self, stack: Stack, callers: Callers, method: str
    ) -> None:
        caller = await callers.enter(DEVICE_TOKEN, stack.gateways[0], CLI, PAIRING)
        error = await caller.fails(method, **READ_METHODS[method])
        assert error == forbidden(READ)


class TestManyDevices:
    """A list larger than the usual bus message is compressed, and arrives complete."""

    async def test_many_devices_are_all_listed(self, stack: Stack, callers: Callers) -> None:
        askers = [
            await callers.enter(ADMINISTRATOR, stack.gateways[0], profile)
            for profile in (CLI, CLI_3)
        ]
        async with replica(stack.redis.approval_url, SystemClock()) as beside:
            many = {device.device_id: device for device in (Device.new() for _ in range(110))}
            for device_id, device in many.items():
                await beside.pair(device, name=2 * device_id)
            for asker in askers:
                listed = (await asker.call("device.pair.list"))["paired"]
                assert len(json.dumps(listed)) > PACKED_FROM_BYTES
                names = {item["deviceId"]: item.get("displayName") for item in listed}
                assert {device_id: names[device_id] for device_id in many} == {
                    device_id: 2 * device_id for device_id in many
                }
            for device_id in many:
                await beside.registry.remove(OPERATOR, device_id)
