"""Connected devices and last-seen times from gateways' heartbeats; live replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from services.approval.domain.authorization import OPERATOR, Caller
from services.approval.domain.errors import NotAllowed
from services.approval.storage.presence import (
    ALIVE_KEPT_MS,
    APPROVALS,
    GATEWAYS,
    approval_key,
    presence_key,
)
from shared.protocol.scopes import PAIRING
from shared.rpc.messages import (
    BeatAnswer,
    BeatQuestion,
    Position,
    Present,
    Seen,
    decode_question,
    encode,
)
from shared.version import VERSION
from tests.integration.approval.replica import everything, replica
from tests.support.clock import FakeClock
from tests.unit.approval.devices import Device

if TYPE_CHECKING:
    from tests.integration.approval.operator import Operator
    from tests.integration.approval.replica import Replica
    from tools.support.redis import RedisServer


class Gateway:
    """A gateway that sends heartbeats on demand."""

    def __init__(self, here: Replica, boot_id: str) -> None:
        self.boot_id = boot_id
        self._here = here
        self._beats = 0
        self._numbers = 0
        self._connections = 0
        self.held_at = 0

    async def beat(self, **told: Any) -> BeatAnswer:
        """Send a heartbeat on top of the last one by default."""
        self._beats += 1
        beat = {
            "applied": Position(),
            "booted": False,
            "builds_on": self.held_at,
            "connections": self._connections,
            "lease_ms": 60_000,
            **told,
        }
        answer = await self._here.store.beat(self.boot_id, BeatQuestion(self._beats, **beat))
        self.held_at = answer.presence_at
        return answer

    async def admits(self, device: Device, role: str = "operator") -> int:
        """Admit a device; returns the number of its connection."""
        self._numbers += 1
        self._connections += 1
        await self.beat(joined=[Present(self._numbers, device.device_id, role, 5)])
        return self._numbers

    async def loses(self, *numbers: int) -> None:
        """Remove connections."""
        self._connections -= len(numbers)
        await self.beat(left=list(numbers))


@pytest.fixture
async def device(here: Replica) -> Device:
    paired = Device.new()
    await here.pair(paired)
    return paired


@pytest.fixture
def east(here: Replica) -> Gateway:
    return Gateway(here, "east")


@pytest.fixture
def west(here: Replica) -> Gateway:
    return Gateway(here, "west")


async def shown(operator: Operator, device: Device) -> dict[str, Any]:
    """Return a device as both calls show it."""
    alone: dict[str, Any] = (await operator.get(f"/v1/devices/{device.device_id}")).ok()
    listed = (await operator.get("/v1/devices")).ok()["devices"]
    assert [one for one in listed if one["deviceId"] == device.device_id] == [alone]
    return alone


async def where(operator: Operator, device: Device) -> list[str]:
    """Return the replicas that a device is connected to."""
    one = await shown(operator, device)
    assert one["connected"] == bool(one["replicas"])
    return sorted(one["replicas"])


async def redis_ms(here: Replica) -> int:
    seconds, microseconds = await here.redis.time()
    return int(seconds * 1000 + microseconds // 1000)


class TestConnected:
    async def test_nowhere(self, operator: Operator, device: Device) -> None:
        assert await where(operator, device) == []

    async def test_here_and_there(
        self, operator: Operator, device: Device, east: Gateway, west: Gateway
    ) -> None:
        number = await east.admits(device)
        await west.beat()
        assert await where(operator, device) == ["east"]
        await west.admits(device)
        assert await where(operator, device) == ["east", "west"]
        await east.loses(number)
        assert await where(operator, device) == ["west"]

    async def test_as_long_as_one_of_several_connections_is_there(
        self, operator: Operator, device: Device, east: Gateway
    ) -> None:
        first, second = await east.admits(device), await east.admits(device, "node")
        await east.loses(first)
        assert await where(operator, device) == ["east"]
        await east.loses(first)
        assert await where(operator, device) == ["east"]
        await east.loses(second)
        assert await where(operator, device) == []

    async def test_each_device_by_itself(
        self, here: Replica, operator: Operator, device: Device, east: Gateway, west: Gateway
    ) -> None:
        other = Device.new()
        await here.pair(other)
        await east.admits(device)
        await west.admits(other)
        assert await where(operator, device) == ["east"]
        assert await where(operator, other) == ["west"]

    async def test_at_the_other_replica_of_approval_as_well(
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
        assert [one["bootId"] for one in await gateways(operator)] == ["west"]
        await west.beat()
        assert await here.redis.zrange(GATEWAYS, 0, -1) == [b"west"]

    async def test_a_heartbeat_keeps_it(self, here: Replica, device: Device, east: Gateway) -> None:
        await east.admits(device)
        await here.redis.pexpire(presence_key("east"), 1_000)
        await east.beat()
        assert await here.redis.pttl(presence_key("east")) > 50_000


class TestR13:
    """A delta is applied only on top of the heartbeat it builds on, and only forward."""

    async def test_not_on_another(self, operator: Operator, device: Device, east: Gateway) -> None:
        number = await east.admits(device)
        answer = await east.beat(builds_on=7, left=[number])
        assert answer.presence_at == 1
        assert await where(operator, device) == ["east"]

    async def test_not_twice(
        self, here: Replica, operator: Operator, device: Device, east: Gateway
    ) -> None:
        joined = [Present(1, device.device_id, "operator", 5)]
        again = BeatQuestion(1, Position(), booted=False, builds_on=0, connections=1, joined=joined)
        await here.store.beat("east", again)
        east.held_at, east._beats = 1, 1
        await east.loses(1)
        assert (await here.store.beat("east", again)).presence_at == 2
        assert await where(operator, device) == []

    async def test_from_the_start_forgets_what_was(
        self, here: Replica, operator: Operator, device: Device, east: Gateway
    ) -> None:
        other = Device.new()
        await here.pair(other)
        await east.admits(device)
        await east.beat(builds_on=0, joined=[Present(9, other.device_id, "operator", 5)])
        assert await where(operator, device) == []
        assert await where(operator, other) == ["east"]


class TestSeen:
    async def test_never(self, operator: Operator, device: Device) -> None:
        one = await shown(operator, device)
        assert not {"lastSeenAtMs", "lastSeenReason"} & one.keys()
        assert "lastUsedAtMs" not in one["tokens"][0]

    async def test_with_the_gateway_token(
        self, here: Replica, operator: Operator, device: Device, east: Gateway
    ) -> None:
        before = await redis_ms(here)
        await east.beat(seen=[Seen(device.device_id, "operator", "token", "192.0.2.7", 40)])
        one = await shown(operator, device)
        assert before - 40 <= one["lastSeenAtMs"] <= await redis_ms(here) - 40
        assert (one["lastSeenReason"], one["remoteIp"]) == ("connect", "192.0.2.7")
        assert "lastUsedAtMs" not in one["tokens"][0]

    async def test_with_a_device_token(
        self, operator: Operator, device: Device, east: Gateway
    ) -> None:
        await east.beat(seen=[Seen(device.device_id, "operator", "device-token", "::1", 0)])
        one = await shown(operator, device)
        assert one["tokens"][0]["lastUsedAtMs"] == one["lastSeenAtMs"]
        assert "remoteIp" not in one

    async def test_each_role_has_a_token_of_its_own(
        self, here: Replica, operator: Operator, device: Device, east: Gateway
    ) -> None:
        asked = await here.request(device.asks(role="node", scopes=()))
        (await operator.approve(asked.request_id)).ok()
        began = await redis_ms(here)
        for role, age in (("node", 5_000), ("operator", 9_000)):
            await east.beat(seen=[Seen(device.device_id, role, "device-token", "192.0.2.7", age)])
        took = await redis_ms(here) - began
        one = await shown(operator, device)
        node, own = (token["lastUsedAtMs"] for token in one["tokens"])
        assert one["lastSeenAtMs"] == node
        assert 4_000 - took <= node - own <= 4_000

    async def test_repeated_or_late_it_only_moves_forward(
        self, operator: Operator, device: Device, east: Gateway, west: Gateway
    ) -> None:
        await east.beat(seen=[Seen(device.device_id, "operator", "device-token", "192.0.2.7", 0)])
        first = await shown(operator, device)
        late = Seen(device.device_id, "operator", "device-token", "192.0.2.8", 60_000)
        await west.beat(seen=[late, late])
        assert await shown(operator, device) == first

    async def test_many_at_once(self, here: Replica, operator: Operator, east: Gateway) -> None:
        devices = [Device.new() for _ in range(5)]
        for one in devices:
            await here.pair(one)
        ages = {one.device_id: 1_000 * place for place, one in enumerate(devices)}
        seen = [Seen(one, "operator", "token", "192.0.2.7", age) for one, age in ages.items()]
        await east.beat(seen=seen)
        listed = (await operator.get("/v1/devices")).ok()["devices"]
        at = {one["deviceId"]: one["lastSeenAtMs"] for one in listed}
        newest = max(at.values())
        assert {one: newest - when for one, when in at.items()} == ages

    async def test_is_forgotten_with_the_device(
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
        kept = await everything(redis_server.admin_url)
        assert not [key for key in kept if key.startswith("latchkey:seen:")]
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
        one = await shown(operator, device)
        assert (one["displayName"], one["platform"]) == ("Pocket", "iOS 26.5")
        assert (await operator.get("/v1/devices?q=pocket+26.5")).ok()["total"] == 1
        late, unnamed = seen("Old", "iOS 26.4", 60_000), seen("", "", app="")
        await east.beat(seen=[late, unnamed, seen("", "linux", app="cli")])
        assert (await shown(operator, device)).items() >= {
            ("displayName", "Pocket"),
            ("platform", "iOS 26.5"),
        }
        await east.beat(seen=[seen("x" * 999, "iOS 26." + "9" * 999)])
        one = await shown(operator, device)
        assert (len(one["displayName"]), len(one["platform"])) == (128, 128)
        assert await here.store.load([device.device_id]) == (before, held), "no change"

    async def test_a_name_that_was_approved_since_counts(
        self, here: Replica, operator: Operator, device: Device, east: Gateway
    ) -> None:
        await east.beat(seen=[Seen(device.device_id, "operator", "token", "", 0, "Old")])
        assert (await shown(operator, device))["displayName"] == "Old"
        here.store.now_ms = lambda: 2**50  # type: ignore[method-assign]
        asked = await here.request(device.asks(("operator.admin",), name="New"))
        await here.registry.approve(OPERATOR, asked.request_id)
        assert (await shown(operator, device))["displayName"] == "New"

    async def test_is_no_change(self, here: Replica, device: Device, east: Gateway) -> None:
        before, _held = await here.store.load([])
        await east.beat(seen=[Seen(device.device_id, "operator", "token", "192.0.2.7", 0)])
        assert (await here.store.load([]))[0] == before


async def gateways(operator: Operator) -> list[dict[str, Any]]:
    """Return the live gateways."""
    found: list[dict[str, Any]] = (await operator.get("/v1/replicas")).ok()["gateways"]
    return found


class TestReplicas:
    async def test_nobody(self, operator: Operator) -> None:
        nobody = {"gateways": [], "approvals": [], "presenceVersion": 0, "refusalsVersion": 0}
        assert (await operator.get("/v1/replicas")).ok() == nobody

    async def test_every_connect_and_disconnect_raises_the_version(
        self, operator: Operator, device: Device, east: Gateway
    ) -> None:
        async def version() -> int:
            return int((await operator.get("/v1/replicas")).ok()["presenceVersion"])

        await east.beat()
        before = await version()
        await east.admits(device)
        await east.beat()
        came = await version()
        assert came > before
        await east.beat()
        assert await version() == came

    async def test_gateways_the_fullest_first(
        self, here: Replica, operator: Operator, device: Device, east: Gateway, west: Gateway
    ) -> None:
        head, _held = await here.store.load([])
        await west.beat()
        await east.admits(device)
        await east.beat(booted=True, applied=Position(head.number - 1, "x"))
        first, second = await gateways(operator)
        assert 0 <= first.pop("lastBeatAgoMs") < 5_000
        assert 0 <= second.pop("lastBeatAgoMs") < 5_000
        assert first == {"bootId": "east", "connections": 1, "changesBehind": 1}
        assert second == {"bootId": "west", "connections": 0}

    async def test_time_passes_until_the_next_heartbeat(
        self, here: Replica, operator: Operator, east: Gateway
    ) -> None:
        await east.beat()
        seen = int(await here.redis.hget(presence_key("east"), "seen"))
        await here.redis.hset(presence_key("east"), "seen", seen - 7_000)
        (one,) = await gateways(operator)
        assert one["lastBeatAgoMs"] >= 7_000

    async def test_a_gateway_tells_its_release_and_how_long_it_has_been_running(
        self, here: Replica, operator: Operator, east: Gateway
    ) -> None:
        await east.beat(version="9.8.7", uptime_s=3_600)
        (one,) = await gateways(operator)
        assert (one["version"], one["uptimeSeconds"]) == ("9.8.7", 3_600)
        await east.beat(version="9.8.7", uptime_s=3_601, builds_on=0)
        (one,) = await gateways(operator)
        assert (one["version"], one["uptimeSeconds"]) == ("9.8.7", 3_601)
        status = await here.registry.replicas(OPERATOR)
        assert status.gateways[0].process.uptime_s == 3_601

    async def test_a_gateway_of_the_release_before_is_listed_without_a_release(
        self, here: Replica, operator: Operator
    ) -> None:
        question = BeatQuestion(1, Position(), booted=False, builds_on=0, connections=0)
        fields = msgspec.msgpack.decode(encode(question))
        last = BeatQuestion.__struct_fields__.index("lease_ms")
        older = decode_question(msgspec.msgpack.encode(fields[: last + 2]))
        assert isinstance(older, BeatQuestion)
        await here.store.beat("older", older)
        (one,) = await gateways(operator)
        assert one.keys() == {"bootId", "connections", "lastBeatAgoMs"}

    async def test_an_approval_tells_its_release_and_how_long_it_has_been_running(
        self, here: Replica, operator: Operator
    ) -> None:
        await here.store.write_alive("first", uptime_s=7)
        await here.redis.zadd(APPROVALS, {"older": await redis_ms(here)})
        first, older = (await operator.get("/v1/replicas")).ok()["approvals"]
        assert (first["version"], first["uptimeSeconds"]) == (VERSION, 7)
        assert older.keys() == {"bootId", "lastAliveAgoMs"}
        assert 0 < await here.redis.pttl(approval_key("first")) <= ALIVE_KEPT_MS

    async def test_approvals(self, here: Replica, there: Replica, operator: Operator) -> None:
        await here.store.write_alive("first")
        await there.store.write_alive("second")
        await there.store.write_alive("second")
        found = (await operator.get("/v1/replicas")).ok()["approvals"]
        assert [one["bootId"] for one in found] == ["first", "second"]
        assert all(0 <= one["lastAliveAgoMs"] < 5_000 for one in found)

    async def test_a_wall_clock_that_is_wrong_does_not_matter(
        self, redis_server: RedisServer, operator: Operator
    ) -> None:
        async with replica(redis_server.approval_url, FakeClock(wall_ms=1)) as lost:
            await lost.store.write_alive("lost")
        (one,) = (await operator.get("/v1/replicas")).ok()["approvals"]
        assert one["lastAliveAgoMs"] < 5_000

    async def test_a_silent_approval_vanishes(
        self, here: Replica, there: Replica, operator: Operator
    ) -> None:
        await here.store.write_alive("first")
        await there.store.write_alive("second")
        at = await redis_ms(here) - 2 * ALIVE_KEPT_MS
        await here.redis.zadd(APPROVALS, {"first": at})
        found = (await operator.get("/v1/replicas")).ok()["approvals"]
        assert [one["bootId"] for one in found] == ["second"]
        await there.store.write_alive("second")
        assert await here.redis.zrange(APPROVALS, 0, -1) == [b"second"]


class TestRights:
    async def test_replicas_and_history_are_for_operators(self, here: Replica) -> None:
        caller = Caller("shared-secret", "gateway:1", (PAIRING,))
        for call in (
            here.registry.replicas(caller),
            here.registry.present(caller),
            here.registry.follow(caller, Position(), 1),
        ):
            with pytest.raises(NotAllowed):
                await call
        await here.registry.replicas(OPERATOR)
