from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from services.approval.domain.authorization import OPERATOR
from shared.rpc.messages import NeedsPairing
from tests.integration.approval.operator import path_of
from tests.integration.approval.replica import everything
from tests.support.approval.devices import READ_PAIRING, Device

if TYPE_CHECKING:
    from tests.integration.approval.operator import Operator
    from tests.integration.approval.replica import Replica
    from tests.support.clock import FakeClock
    from tools.support.processes.redis import RedisServer

UNKNOWN = "0" * 64


class TestListing:
    async def test_the_list_is_empty_before_the_first_pairing(self, operator: Operator) -> None:
        assert (await operator.get("/v1/devices")).ok() == {"devices": [], "total": 0}

    async def test_a_device_object_is_as_documented(
        self, here: Replica, operator: Operator, clock: FakeClock
    ) -> None:
        device = Device.new()
        created = clock.wall_ms()
        await here.pair(device, *READ_PAIRING, name="Mac", address="2001:db8::7")
        clock.advance(5)
        await here.registry.approve(
            OPERATOR, (await here.request(device.asks(role="node", scopes=()))).request_id
        )
        approved = clock.wall_ms()
        clock.advance(5)
        (await operator.call("PATCH", path_of(device), json={"label": "Kitchen"})).ok()
        (await operator.post(path_of(device, "tokens/operator/rotate"))).ok()
        (await operator.post(path_of(device, "tokens/node/revoke"))).ok()
        now = clock.wall_ms()
        shown = {
            "deviceId": device.device_id,
            "publicKey": device.public_key,
            "operatorLabel": "Kitchen",
            "platform": "linux",
            "deviceFamily": "Linux",
            "clientId": "cli",
            "clientMode": "cli",
            "role": "node",
            "roles": ["operator", "node"],
            "scopes": list(READ_PAIRING),
            "approvedVia": "owner",
            "createdAtMs": created,
            "approvedAtMs": approved,
            "connected": False,
            "replicas": [],
            "tokens": [
                {"role": "node", "scopes": [], "createdAtMs": approved, "revokedAtMs": now},
                {
                    "role": "operator",
                    "scopes": sorted(READ_PAIRING),
                    "createdAtMs": created,
                    "rotatedAtMs": now,
                },
            ],
        }
        assert (await operator.get(path_of(device))).ok() == shown
        assert (await operator.get("/v1/devices")).ok() == {"devices": [shown], "total": 1}

    async def test_name_and_address_of_a_remote_device(
        self, here: Replica, operator: Operator
    ) -> None:
        device = Device.new()
        await here.pair(device, name="Mac", address="2001:db8::7")
        shown = (await operator.get(path_of(device))).ok()
        assert (shown["displayName"], shown["remoteIp"]) == ("Mac", "2001:db8::7")

    async def test_the_latest_approved_is_first(
        self, here: Replica, operator: Operator, clock: FakeClock
    ) -> None:
        devices = [Device.new() for _ in range(3)]
        for device in devices:
            await here.pair(device)
            clock.advance(1)
        await here.pair(devices[0], *READ_PAIRING)
        listed = [
            device["deviceId"] for device in (await operator.get("/v1/devices")).ok()["devices"]
        ]
        assert listed == [devices[index].device_id for index in (0, 2, 1)]

    async def test_a_pending_device_is_not_paired(self, here: Replica, operator: Operator) -> None:
        device = Device.new()
        await here.request(device.asks())
        assert (await operator.get("/v1/devices")).ok() == {"devices": [], "total": 0}
        assert (await operator.get(path_of(device))).problem(404, "unknown-device")


class TestRenaming:
    @pytest.mark.parametrize(
        ("label", "expected"), [("Kitchen", "Kitchen"), ("  a b\n", "a b"), ("é" * 64, "é" * 64)]
    )
    async def test_the_label_is_trimmed_and_kept(
        self, here: Replica, operator: Operator, label: str, expected: str
    ) -> None:
        device = Device.new()
        await here.pair(device)
        for _ in range(2):
            reply = await operator.call("PATCH", path_of(device), json={"label": label})
            assert reply.ok() == {"deviceId": device.device_id, "label": expected}
        assert (await operator.get(path_of(device))).ok()["operatorLabel"] == expected
        assert [entry["action"] for entry in await operator.audit()].count("renamed") == 1

    @pytest.mark.parametrize(
        "body",
        [
            *({"label": label} for label in ("", " \t", "x" * 65, 5, None, ["a"])),
            *({}, [], "label", {"label": "a", "labels": "b"}),
        ],
    )
    async def test_an_invalid_label_is_refused(
        self, here: Replica, operator: Operator, body: Any
    ) -> None:
        device = Device.new()
        await here.pair(device)
        reply = await operator.call("PATCH", path_of(device), json=body)
        assert reply.problem(400, "malformed") == {"deviceId": device.device_id}
        assert "operatorLabel" not in (await operator.get(path_of(device))).ok()

    async def test_the_unknown_field_is_named(self, here: Replica, operator: Operator) -> None:
        device = Device.new()
        reply = await operator.call("PATCH", path_of(device), json={"label": "a", "labels": "b"})
        assert "`labels`" in reply.body["detail"]

    async def test_the_label_survives_another_approval(
        self, here: Replica, operator: Operator
    ) -> None:
        device = Device.new()
        await here.pair(device)
        (await operator.call("PATCH", path_of(device), json={"label": "Kitchen"})).ok()
        await here.pair(device, *READ_PAIRING)
        assert (await operator.get(path_of(device))).ok()["operatorLabel"] == "Kitchen"


class TestRemoving:
    async def test_a_removed_device_is_gone(
        self, here: Replica, operator: Operator, redis_server: RedisServer
    ) -> None:
        device = await here.paired()
        await here.request(device.asks(READ_PAIRING))
        reply = await operator.call("DELETE", path_of(device))
        assert reply.ok() == {"deviceId": device.device_id}
        assert here.published[-1].closes == ["*"]
        reply = await operator.call("DELETE", path_of(device))
        assert reply.problem(404, "unknown-device") == {"deviceId": device.device_id}
        stored = await everything(redis_server.admin_url)
        named = [key for key, value in stored.items() if device.device_id in key + repr(value)]
        kinds = {key.split(":")[1] for key in named}
        assert kinds == {"audit", "changes", "request", "turned-away"}, "what was, not what is"

    async def test_what_it_asked_for_goes_with_it(self, here: Replica, operator: Operator) -> None:
        device = Device.new()
        await here.pair(device)
        asked = await here.request(device.asks(READ_PAIRING))
        (await operator.call("DELETE", path_of(device))).ok()
        assert await operator.pending_ids() == []
        assert (await operator.approve(asked.request_id)).problem(409, "request-rejected")
        assert isinstance(await here.answer(device.asks()), NeedsPairing)


class TestUnknown:
    async def test_calls_about_an_unknown_device_are_not_found(self, operator: Operator) -> None:
        unknown = f"/v1/devices/{UNKNOWN}"
        for reply in (
            await operator.get(unknown),
            await operator.call("PATCH", unknown, json={"label": "a"}),
            await operator.call("DELETE", unknown),
        ):
            assert reply.problem(404, "unknown-device") == {"deviceId": UNKNOWN}
        for act in ("rotate", "revoke"):
            reply = await operator.post(f"{unknown}/tokens/node/{act}")
            assert reply.problem(404, "unknown-device") == {"deviceId": UNKNOWN, "role": "node"}

    @pytest.mark.parametrize("act", ["rotate", "revoke"])
    async def test_a_role_it_never_had(self, here: Replica, operator: Operator, act: str) -> None:
        device = Device.new()
        await here.pair(device)
        reply = await operator.post(path_of(device, "tokens/node", act))
        assert reply.problem(404, "unknown-role") == {
            "deviceId": device.device_id,
            "role": "node",
        }
