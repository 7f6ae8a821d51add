"""Connected devices and last-seen times, from the heartbeats of gateways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.approval.domain.authorization import OPERATOR
from services.approval.storage.heartbeats.presence import GATEWAYS, presence_key
from shared.rpc.messages import HeartbeatQuestion, Position
from shared.rpc.reports import Present, Seen
from tests.integration.approval.heartbeats.gateway import Gateway, gateways, redis_ms
from tests.integration.approval.replica import everything
from tests.support.approval.devices import Device

if TYPE_CHECKING:
    from tests.integration.approval.operator import Operator
    from tests.integration.approval.replica import Replica
    from tools.support.processes.redis import RedisServer


async def shown(operator: Operator, device: Device) -> dict[str, Any]:
    """Return a device as both calls show it."""
    alone: dict[str, Any] = (await operator.get(f"/v1/devices/{device.device_id}")).ok()
    listed = (await operator.get("/v1/devices")).ok()["devices"]
    assert [item for item in listed if item["deviceId"] == device.device_id] == [alone]
    return alone


async def where(operator: Operator, device: Device) -> list[str]:
    """Return the replicas that a device is connected to."""
    entry = await shown(operator, device)
    assert entry["connected"] == bool(entry["replicas"])
    return sorted(entry["replicas"])


class TestConnected:
    async def test_a_device_without_connections_is_connected_nowhere(
        self, operator: Operator, device: Device
    ) -> None:
        assert await where(operator, device) == []

    async def test_a_device_is_shown_at_each_gateway_it_is_connected_to(
        self, operator: Operator, device: Device, east: Gateway, west: Gateway
    ) -> None:
        number = await east.admits(device)
        await west.beat()
        assert await where(operator, device) == ["east"]
        await west.admits(device)
        assert await where(operator, device) == ["east", "west"]
        await east.loses(number)
        assert await where(operator, device) == ["west"]

    async def test_a_device_is_connected_while_one_of_several_connections_is_open(
        self, operator: Operator, device: Device, east: Gateway
    ) -> None:
        first, second = await east.admits(device), await east.admits(device, "node")
        await east.loses(first)
        assert await where(operator, device) == ["east"]
        await east.loses(first)
        assert await where(operator, device) == ["east"]
        await east.loses(second)
        assert await where(operator, device) == []

    async def test_each_device_is_shown_at_its_own_gateway(
        self, here: Replica, operator: Operator, device: Device, east: Gateway, west: Gateway
    ) -> None:
        other = Device.new()
        await here.pair(other)
        await east.admits(device)
        await west.admits(other)
        assert await where(operator, device) == ["east"]
        assert await where(operator, other) == ["west"]

    async def test_the_other_replica_of_approval_shows_it_as_well(
        self, there: Replica, operator: Operator, device: Device
    ) -> None:
        await Gateway(there, "east").admits(device)
        assert await where(operator, device) == ["east"]

    async def test_a_silent_gateway_vanishes_as_a_whole(
        self, here: Replica, operator: Operator, device: Device, west: Gateway
    ) -> None:
        brief = Gateway(here, "brief")
        await brief.admits(device)
        await west.admits(device)
        assert await where(operator, device) == ["brief", "west"]
        await brief.beat(lease_ms=300)
        while await here.redis.exists(presence_key("brief")):  # the test's own timeout bounds it
            pass
        assert await where(operator, device) == ["west"]
        assert [gateway["bootId"] for gateway in await gateways(operator)] == ["west"]
        await west.beat()
        assert await here.redis.zrange(GATEWAYS, 0, -1) == [b"west"]

    async def test_a_heartbeat_keeps_a_connection_listed(
        self, here: Replica, device: Device, east: Gateway
    ) -> None:
        await east.admits(device)
        await here.redis.pexpire(presence_key("east"), 1_000)
        await east.beat()
        assert await here.redis.pttl(presence_key("east")) > 50_000


class TestR13:
    """A delta is applied only on top of the heartbeat it builds on, and only forward."""

    async def test_a_delta_on_another_presence_is_not_applied(
        self, operator: Operator, device: Device, east: Gateway
    ) -> None:
        number = await east.admits(device)
        answer = await east.beat(builds_on=7, left=[number])
        assert answer.presence_at == 1
        assert await where(operator, device) == ["east"]

    async def test_a_heartbeat_that_arrives_twice_counts_once(
        self, here: Replica, operator: Operator, device: Device, east: Gateway
    ) -> None:
        joined = [Present(1, device.device_id, "operator", 5)]
        again = HeartbeatQuestion(
            1, Position(), booted=False, builds_on=0, connections=1, joined=joined
        )
        await here.store.heartbeats.answer("east", again)
        east.held_at, east._beats = 1, 1
        await east.loses(1)
        assert (await here.store.heartbeats.answer("east", again)).presence_at == 2
        assert await where(operator, device) == []

    async def test_a_report_from_the_start_replaces_earlier_presence(
        self, here: Replica, operator: Operator, device: Device, east: Gateway
    ) -> None:
        other = Device.new()
        await here.pair(other)
        await east.admits(device)
        await east.beat(builds_on=0, joined=[Present(9, other.device_id, "operator", 5)])
        assert await where(operator, device) == []
        assert await where(operator, other) == ["east"]


class TestSeen:
    async def test_a_device_that_never_connected_has_no_last_seen_time(
        self, operator: Operator, device: Device
    ) -> None:
        entry = await shown(operator, device)
        assert not {"lastSeenAtMs", "lastSeenReason"} & entry.keys()
        assert "lastUsedAtMs" not in entry["tokens"][0]

    async def test_an_admission_with_the_gateway_token_is_recorded(
        self, here: Replica, operator: Operator, device: Device, east: Gateway
    ) -> None:
        before = await redis_ms(here)
        await east.beat(seen=[Seen(device.device_id, "operator", "token", "192.0.2.7", 40)])
        entry = await shown(operator, device)
        assert before - 40 <= entry["lastSeenAtMs"] <= await redis_ms(here) - 40
        assert (entry["lastSeenReason"], entry["remoteIp"]) == ("connect", "192.0.2.7")
        assert "lastUsedAtMs" not in entry["tokens"][0]

    async def test_an_admission_with_a_device_token_is_recorded(
        self, operator: Operator, device: Device, east: Gateway
    ) -> None:
        await east.beat(seen=[Seen(device.device_id, "operator", "device-token", "::1", 0)])
        entry = await shown(operator, device)
        assert entry["tokens"][0]["lastUsedAtMs"] == entry["lastSeenAtMs"]
        assert "remoteIp" not in entry

    async def test_each_role_has_a_token_of_its_own(
        self, here: Replica, operator: Operator, device: Device, east: Gateway
    ) -> None:
        asked = await here.request(device.asks(role="node", scopes=()))
        (await operator.approve(asked.request_id)).ok()
        began = await redis_ms(here)
        for role, age in (("node", 5_000), ("operator", 9_000)):
            await east.beat(seen=[Seen(device.device_id, role, "device-token", "192.0.2.7", age)])
        took = await redis_ms(here) - began
        entry = await shown(operator, device)
        node, own = (token["lastUsedAtMs"] for token in entry["tokens"])
        assert entry["lastSeenAtMs"] == node
        assert 4_000 - took <= node - own <= 4_000

    async def test_repeated_or_late_reports_only_move_it_forward(
        self, operator: Operator, device: Device, east: Gateway, west: Gateway
    ) -> None:
        await east.beat(seen=[Seen(device.device_id, "operator", "device-token", "192.0.2.7", 0)])
        first = await shown(operator, device)
        late = Seen(device.device_id, "operator", "device-token", "192.0.2.8", 60_000)
        await west.beat(seen=[late, late])
        assert await shown(operator, device) == first

    async def test_one_heartbeat_records_many_devices(
        self, here: Replica, operator: Operator, east: Gateway
    ) -> None:
        devices = [Device.new() for _ in range(5)]
        for device in devices:
            await here.pair(device)
        ages = {item.device_id: 1_000 * place for place, item in enumerate(devices)}
        seen = [Seen(item, "operator", "token", "192.0.2.7", age) for item, age in ages.items()]
        await east.beat(seen=seen)
        listed = (await operator.get("/v1/devices")).ok()["devices"]
        at = {item["deviceId"]: item["lastSeenAtMs"] for item in listed}
        newest = max(at.values())
        assert {item: newest - when for item, when in at.items()} == ages

    async def test_last_seen_times_are_removed_with_the_device(
        self,
        here: Replica,
        operator: Operator,
        device: Device,
        east: Gateway,
        redis_server: RedisServer,
    ) -> None:
        seen = [Seen(device.device_id, "operator", "token", "192.0.2.7", 0)]
        await east.beat(seen=seen)
        (await operator.call("DELETE", f"/v1/devices/{device.device_id}")).ok()
        await east.beat(seen=seen)
        stored = await everything(redis_server.admin_url)
        assert not [key for key in stored if key.startswith("latchkey:seen:")]
        await here.pair(device)
        assert "lastSeenAtMs" not in await shown(operator, device)

    async def test_its_name_and_the_version_of_its_system(
        self, here: Replica, operator: Operator, east: Gateway
    ) -> None:
        device = Device.new()
        phone = {"client": ("openclaw-ios", "ui"), "family": "iPhone", "platform": "iOS 26.4"}
        await here.pair(device, name="Phone", **phone)
        before, held = await here.store.load([device.device_id])

        def seen(name: str, platform: str, age_ms: int = 0, app: str = "openclaw-ios") -> Seen:
            return Seen(device.device_id, "operator", "token", "", age_ms, name, app, platform)

        await east.beat(seen=[seen("Pocket", "iOS 26.5")])
        entry = await shown(operator, device)
        assert (entry["displayName"], entry["platform"]) == ("Pocket", "iOS 26.5")
        assert (await operator.get("/v1/devices?q=pocket+26.5")).ok()["total"] == 1
        late, unnamed = seen("Old", "iOS 26.4", 60_000), seen("", "", app="")
        await east.beat(seen=[late, unnamed, seen("", "linux", app="cli")])
        assert (await shown(operator, device)).items() >= {
            ("displayName", "Pocket"),
            ("platform", "iOS 26.5"),
        }
        await east.beat(seen=[seen("x" * 999, "iOS 26." + "9" * 999)])
        entry = await shown(operator, device)
        assert (len(entry["displayName"]), len(entry["platform"])) == (128, 128)
        assert await here.store.load([device.device_id]) == (before, held), "no change"

    async def test_a_name_that_was_approved_since_counts(
        self, here: Replica, operator: Operator, device: Device, east: Gateway
    ) -> None:
        await east.beat(seen=[Seen(device.device_id, "operator", "token", "", 0, "Old")])
        assert (await shown(operator, device))["displayName"] == "Old"
        here.store.now_ms = lambda: 2**50
        asked = await here.request(device.asks(("operator.admin",), name="New"))
        await here.registry.approve(OPERATOR, asked.request_id)
        assert (await shown(operator, device))["displayName"] == "New"

    async def test_being_seen_is_not_a_change(
        self, here: Replica, device: Device, east: Gateway
    ) -> None:
        before, _held = await here.store.load([])
        await east.beat(seen=[Seen(device.device_id, "operator", "token", "192.0.2.7", 0)])
        assert (await here.store.load([]))[0] == before
