"""Live replicas of both services, as operators see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from services.approval.domain.authorization import OPERATOR, Caller
from services.approval.domain.errors import NotAllowed
from services.approval.storage.heartbeats.presence import (
    ALIVE_KEPT_MS,
    APPROVALS,
    approval_key,
    presence_key,
)
from shared.protocol.scopes import PAIRING
from shared.rpc.messages import (
    HeartbeatQuestion,
    Position,
    decode_question,
    encode,
)
from shared.version import VERSION
from tests.integration.approval.heartbeats.gateway import Gateway, gateways, redis_ms
from tests.integration.approval.replica import replica
from tests.support.clock import FakeClock

if TYPE_CHECKING:
    from tests.integration.approval.operator import Operator
    from tests.integration.approval.replica import Replica
    from tests.support.approval.devices import Device
    from tools.support.processes.redis import RedisServer


class TestReplicas:
    async def test_no_replicas_are_listed_before_the_first_reports(
        self, operator: Operator
    ) -> None:
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

    async def test_gateways_are_listed_with_the_fullest_first(
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
        (gateway,) = await gateways(operator)
        assert gateway["lastBeatAgoMs"] >= 7_000

    async def test_a_gateway_tells_its_release_and_how_long_it_has_been_running(
        self, here: Replica, operator: Operator, east: Gateway
    ) -> None:
        await east.beat(version="9.8.7", uptime_s=3_600)
        (gateway,) = await gateways(operator)
        assert (gateway["version"], gateway["uptimeSeconds"]) == ("9.8.7", 3_600)
        await east.beat(version="9.8.7", uptime_s=3_601, builds_on=0)
        (gateway,) = await gateways(operator)
        assert (gateway["version"], gateway["uptimeSeconds"]) == ("9.8.7", 3_601)
        status = await here.registry.replicas(OPERATOR)
        assert status.gateways[0].process.uptime_s == 3_601

    async def test_a_gateway_of_the_release_before_is_listed_without_a_release(
        self, here: Replica, operator: Operator
    ) -> None:
        question = HeartbeatQuestion(1, Position(), booted=False, builds_on=0, connections=0)
        fields = msgspec.msgpack.decode(encode(question))
        last = HeartbeatQuestion.__struct_fields__.index("lease_ms")
        older = decode_question(msgspec.msgpack.encode(fields[: last + 2]))
        assert isinstance(older, HeartbeatQuestion)
        await here.store.heartbeats.answer("older", older)
        (gateway,) = await gateways(operator)
        assert gateway.keys() == {"bootId", "connections", "lastBeatAgoMs"}

    async def test_an_approval_tells_its_release_and_how_long_it_has_been_running(
        self, here: Replica, operator: Operator
    ) -> None:
        await here.store.liveness.write_alive("first", uptime_s=7)
        await here.redis.zadd(APPROVALS, {"older": await redis_ms(here)})
        first, older = (await operator.get("/v1/replicas")).ok()["approvals"]
        assert (first["version"], first["uptimeSeconds"]) == (VERSION, 7)
        assert older.keys() == {"bootId", "lastAliveAgoMs"}
        assert 0 < await here.redis.pttl(approval_key("first")) <= ALIVE_KEPT_MS

    async def test_live_approvals_are_listed(
        self, here: Replica, there: Replica, operator: Operator
    ) -> None:
        await here.store.liveness.write_alive("first")
        await there.store.liveness.write_alive("second")
        await there.store.liveness.write_alive("second")
        found = (await operator.get("/v1/replicas")).ok()["approvals"]
        assert [item["bootId"] for item in found] == ["first", "second"]
        assert all(0 <= item["lastAliveAgoMs"] < 5_000 for item in found)

    async def test_a_wall_clock_that_is_wrong_does_not_matter(
        self, redis_server: RedisServer, operator: Operator
    ) -> None:
        async with replica(redis_server.approval_url, FakeClock(wall_ms=1)) as lost:
            await lost.store.liveness.write_alive("lost")
        (approval,) = (await operator.get("/v1/replicas")).ok()["approvals"]
        assert approval["lastAliveAgoMs"] < 5_000

    async def test_a_silent_approval_vanishes(
        self, here: Replica, there: Replica, operator: Operator
    ) -> None:
        await here.store.liveness.write_alive("first")
        await there.store.liveness.write_alive("second")
        at = await redis_ms(here) - 2 * ALIVE_KEPT_MS
        await here.redis.zadd(APPROVALS, {"first": at})
        found = (await operator.get("/v1/replicas")).ok()["approvals"]
        assert [item["bootId"] for item in found] == ["second"]
        await there.store.liveness.write_alive("second")
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
