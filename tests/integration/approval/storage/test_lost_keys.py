"""Keys that were deleted, emptied or overwritten: nothing is half done, and they are repaired."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from services.approval.domain.errors import StoreUnavailable
from services.approval.metrics import Metrics
from services.approval.registry.integrity import Integrity
from services.approval.storage.changes.indexes import rebuild
from services.approval.storage.changes.repairs import HISTORIES_APART
from services.approval.storage.heartbeats.presence import (
    APPROVALS,
    GATEWAYS,
    PRESENCE_VERSION,
    presence_key,
)
from services.approval.storage.keys import (
    AUDIT,
    CHANGES,
    DECISIONS,
    HEAD,
    PAIRED,
    PAIRED_COUNT,
    PENDING,
    address_key,
)
from shared.rpc.messages import HeartbeatQuestion, Position
from shared.rpc.reports import Seen
from tests.integration.approval.replica import everything
from tests.integration.approval.storage.plans import plan, run
from tests.support.approval.devices import Device

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from services.approval.storage.store import Store
    from tests.integration.approval.operator import Operator
    from tests.integration.approval.replica import Replica
    from tools.support.processes.redis import RedisServer

    Harm = Callable[[Redis, str], Awaitable[Any]]

BEYOND = HISTORIES_APART + 1
TTL_MS = 3_600_000
PENDING_LIMIT_PER_ADDRESS = 50


async def delete(redis: Redis, key: str) -> None:
    await redis.delete(key)


async def as_text(redis: Redis, key: str) -> None:
    await redis.delete(key)
    await redis.set(key, b"garbage")


async def as_list(redis: Redis, key: str) -> None:
    await redis.delete(key)
    await redis.rpush(key, b"garbage")


async def as_set_of_scores(redis: Redis, key: str) -> None:
    await redis.delete(key)
    await redis.zadd(key, {"garbage": 1})


async def emptied(redis: Redis, key: str) -> None:
    if key in (CHANGES, AUDIT):
        await redis.xtrim(key, maxlen=0, approximate=False)
    else:
        await as_empty_text(redis, key)


async def as_empty_text(redis: Redis, key: str) -> None:
    await redis.delete(key)
    await redis.set(key, b"")


async def ahead(redis: Redis, key: str) -> None:
    await redis.xadd(key, {"tag": "x", "previous": "x", "body": b"", "entry": b"{}"}, id="900-0")


async def last_id_ahead(redis: Redis, key: str) -> None:
    await redis.xadd(key, {"entry": b"{}"}, id="1796000000000-0")
    await redis.xdel(key, "1796000000000-0")


HARMS: list[tuple[str, Harm]] = [
    *((HEAD, harm) for harm in (delete, as_text, as_list, emptied, as_set_of_scores)),
    *((CHANGES, harm) for harm in (delete, as_text, as_list, emptied, ahead, last_id_ahead)),
    *((AUDIT, harm) for harm in (delete, as_text, as_list, emptied, ahead, last_id_ahead)),
    *((DECISIONS, harm) for harm in (delete, as_text, as_list)),
    *((PAIRED, harm) for harm in (delete, as_text, as_list)),
    *((PAIRED_COUNT, harm) for harm in (delete, as_text, as_list, emptied)),
    *((PENDING, harm) for harm in (delete, as_text, as_list)),
]


def beat(heartbeat_id: int, applied: Position, **more: Any) -> HeartbeatQuestion:
    return HeartbeatQuestion(
        heartbeat_id=heartbeat_id, applied=applied, booted=True, builds_on=0, connections=0, **more
    )


@pytest.mark.parametrize(("key", "harm"), HARMS)
async def test_removing_a_device_is_done_as_a_whole_whatever_key_is_lost(
    here: Replica, operator: Operator, key: str, harm: Harm
) -> None:
    device, other = Device.new(), Device.new()
    await here.pair(device)
    await here.pair(other)
    await harm(here.redis, key)
    reply = await operator.call("DELETE", f"/v1/devices/{device.device_id}")
    reply.ok()
    head, _ = await here.store.load([])
    last = (await here.store.audit_log.newest(1))[0]
    assert (last.action, last.device_id, last.id) == ("removed", device.device_id, head.number)
    (newest,) = await here.redis.xrevrange(CHANGES, count=1)
    assert newest[0] == b"%d-0" % head.number
    assert newest[1][b"tag"].decode() == head.tag
    assert await here.redis.exists(f"latchkey:device:{device.device_id}") == 0
    await Integrity(here.store, here.ledger, Metrics(), ttl_ms=TTL_MS, ready=lambda: True).look()
    assert [
        device["deviceId"] for device in (await operator.get("/v1/devices")).ok()["devices"]
    ] == [other.device_id]


@pytest.mark.parametrize("key", [HEAD, CHANGES])
@pytest.mark.parametrize("harm", [delete, as_text, as_list, emptied])
async def test_a_heartbeat_after_head_and_log_disagree_makes_the_gateway_start_over(
    here: Replica, store: Store, key: str, harm: Harm
) -> None:
    at = (await run(store, plan(3))).change
    assert not (await store.heartbeats.answer("gateway", beat(1, at))).resync
    await harm(here.redis, key)
    answer = await store.heartbeats.answer("gateway", beat(2, at))
    assert answer.resync
    assert answer.head.number == BEYOND or key == CHANGES
    assert not (await store.heartbeats.answer("gateway", beat(3, answer.head))).resync
    assert [entry.action for entry in await store.audit_log.newest(1)] == ["history-lost"]


async def test_a_change_log_entry_that_cannot_be_read_begins_a_new_history(
    here: Replica, store: Store
) -> None:
    first = (await run(store, plan())).change
    await run(store, plan())
    log = await here.redis.xrange(CHANGES)
    await here.redis.delete(CHANGES)
    await here.redis.xadd(CHANGES, log[0][1], id=log[0][0])
    await here.redis.xadd(CHANGES, {**log[1][1], b"body": b"garbage"}, id=log[1][0])
    answer = await store.heartbeats.answer("gateway", beat(1, first))
    assert answer.resync
    assert answer.head.number == BEYOND


async def test_two_replicas_that_meet_the_same_loss_begin_one_history(
    here: Replica, there: Replica
) -> None:
    await here.ledger.run(plan())
    await here.redis.delete(HEAD)
    await here.store.repairs.repair(HEAD)
    await there.store.repairs.repair(HEAD)
    assert (await here.store.load([]))[0].number == BEYOND


async def test_an_audit_log_of_another_type_is_dropped_once_and_history_goes_on(
    here: Replica, there: Replica
) -> None:
    head = (await here.ledger.run(plan())).change
    await as_list(here.redis, AUDIT)
    for replica in (here, there):  # both have found it before either repaired it
        await replica.store.repairs.repair(AUDIT, head.tag)
    assert (await here.store.load([]))[0] == head
    assert (await there.ledger.run(plan())).change.number == head.number + 1


async def test_an_audit_log_that_takes_no_more_numbers_is_named_and_nothing_is_done(
    here: Replica, store: Store, redis_server: RedisServer
) -> None:
    await run(store, plan())
    await here.redis.xadd(AUDIT, {"entry": b"{}"}, id=f"{2**64 - 1}-0")
    before = await everything(redis_server.admin_url)
    with pytest.raises(StoreUnavailable, match="DEL latchkey:audit"):
        await run(store, plan())
    assert await everything(redis_server.admin_url) == before
    health = Integrity(store, here.ledger, Metrics(), ttl_ms=TTL_MS, ready=lambda: True).health()
    assert not health.ok
    assert AUDIT in health.reason
    await here.redis.delete(AUDIT)
    assert (await run(store, plan())).outcome == "done"
    assert store.repairs.trouble == ""


async def test_readiness_warns_of_a_lost_history_at_every_replica(
    here: Replica, there: Replica
) -> None:
    await here.ledger.run(plan())
    await here.redis.delete(CHANGES)
    await here.ledger.run(plan())
    for replica in (here, there):
        integrity = Integrity(
            replica.store, replica.ledger, Metrics(), ttl_ms=TTL_MS, ready=lambda: True
        )
        await integrity.look()
        (warning,) = integrity.health().warnings
        assert CHANGES in warning


@pytest.mark.parametrize("harm", [delete, as_text, as_list])
async def test_a_lost_index_is_rebuilt_from_the_records(
    here: Replica, operator: Operator, harm: Harm
) -> None:
    devices = [Device.new() for _ in range(3)]
    for device in devices:
        await here.pair(device)
    waiting = Device.new()
    await here.request(waiting.asks())
    await harm(here.redis, PAIRED)
    await here.redis.delete(PENDING)
    await here.pair(Device.new())  # the index exists again, with one of four entries
    metrics = Metrics()
    await Integrity(here.store, here.ledger, metrics, ttl_ms=TTL_MS, ready=lambda: True).look()
    listed = (await operator.get("/v1/devices")).ok()["devices"]
    assert {device.device_id for device in devices} < {item["deviceId"] for item in listed}
    assert len(listed) == 4
    (request,) = (await operator.get("/v1/requests")).ok()["pending"]
    assert request["deviceId"] == waiting.device_id
    assert (
        metrics.registry.get_sample_value("latchkey_approval_repairs_total", {"what": "index"}) == 1
    )
    assert not (await here.store.repairs.look()).incomplete_index


async def test_rebuilding_an_index_restores_no_removed_device(
    here: Replica, operator: Operator
) -> None:
    device = Device.new()
    await here.pair(device)
    _head, held = await here.store.load([device.device_id])
    (await operator.call("DELETE", f"/v1/devices/{device.device_id}")).ok()
    attempt = plan(0)
    attempt.expect(f"latchkey:device:{device.device_id}", held[0].version)
    attempt.write("ZADD", PAIRED, 1, device.device_id)
    assert (await here.ledger.run(attempt)).outcome == "conflict"
    await rebuild(here.store, here.ledger, TTL_MS)
    assert await here.redis.zcard(PAIRED) == 0


async def test_an_index_of_an_address_that_holds_another_type_holds_up_no_request(
    here: Replica,
) -> None:
    await here.redis.rpush(address_key("203.0.113.9"), b"garbage")
    asked = await here.request(Device.new().asks(address="203.0.113.9"))
    assert asked.request_id


async def test_a_full_address_whose_index_names_nobody_takes_new_requests(here: Replica) -> None:
    limit = PENDING_LIMIT_PER_ADDRESS
    key = address_key("203.0.113.9")
    await here.redis.zadd(key, {f"gone-{number}": number for number in range(limit)})
    asked = await here.request(Device.new().asks(address="203.0.113.9"))
    assert asked.request_id


@pytest.mark.parametrize("harm", [as_text, as_list, emptied])
@pytest.mark.parametrize(
    "key", [presence_key("gateway"), GATEWAYS, PRESENCE_VERSION, PAIRED, "latchkey:seen:device"]
)
async def test_no_presence_key_prevents_the_answer_to_a_heartbeat(
    here: Replica, store: Store, key: str, harm: Harm
) -> None:
    at = (await run(store, plan())).change
    await here.redis.zadd(PAIRED, {"device": 1})
    await harm(here.redis, key)
    seen = [Seen("device", "operator", "device-token", "203.0.113.9", 5)]
    answer = await store.heartbeats.answer("gateway", beat(1, at, seen=seen))
    assert (answer.head, answer.presence_at) == (at, 1)
    assert (await store.heartbeats.answer("gateway", beat(2, at))).head == at


@pytest.mark.parametrize("harm", [as_text, as_list])
async def test_the_list_of_approvals_is_begun_anew(here: Replica, store: Store, harm: Harm) -> None:
    await harm(here.redis, APPROVALS)
    with pytest.raises(StoreUnavailable):
        await store.liveness.write_alive("a")
    await store.liveness.write_alive("a")
    assert [approval.boot_id for approval in await store.presence.approvals()] == ["a"]


async def test_an_index_that_is_lost_again_while_it_is_rebuilt_is_not_complete(
    here: Replica, operator: Operator
) -> None:
    devices = [Device.new() for _ in range(2)]
    for device in devices:
        await here.pair(device)
    token = await here.store.repairs.begin_index()
    await here.redis.delete(PAIRED)
    await here.pair(Device.new())
    await here.store.repairs.indexed(token)
    assert (await here.store.repairs.look()).incomplete_index
    await rebuild(here.store, here.ledger, TTL_MS)
    assert len((await operator.get("/v1/devices")).ok()["devices"]) == 3
    assert not (await here.store.repairs.look()).incomplete_index
