"""One unreadable value: everything else is served, and its subject is reported as unknown."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from services.approval.domain.lockout import FAILURES_LIMIT
from services.approval.storage.heartbeats.refusals import (
    REFUSALS_VERSION,
    REFUSED_ADDRESSES,
    REFUSED_ROWS,
)
from services.approval.storage.keys import (
    AUDIT,
    LOCKOUTS,
    PAIRED,
    PENDING,
    REFUSED,
    device_key,
    guard_key,
    refused_key,
    request_key,
    seen_key,
    wrong_values_key,
)
from shared.rpc.messages import Admitted, NeedsPairing, decode_answer
from shared.rpc.reports import RefusalReport
from tests.support.approval.devices import Device
from tests.support.callbacks import result_of

if TYPE_CHECKING:
    from tests.integration.approval.operator import Operator
    from tests.integration.approval.replica import Replica

ADDRESS = "203.0.113.9"
GARBAGE = [b"", b"short", b"x" * 40, b"0123456789abcdef\x81", b"\xff" * 64]


async def put_garbage(here: Replica, key: str, damage: bytes | None) -> None:
    """Overwrite a key: with these bytes, or with a list for None."""
    await here.redis.delete(key)
    if damage is None:
        await here.redis.rpush(key, b"x")
    else:
        await here.redis.set(key, damage)


@pytest.mark.parametrize("damage", [*GARBAGE, None])
class TestRecord:
    async def test_its_device_gets_no_answer_and_all_others_of_the_batch_do(
        self, here: Replica, damage: bytes | None
    ) -> None:
        devices = [Device.new() for _ in range(3)]
        for device in devices:
            await here.pair(device)
        await put_garbage(here, device_key(devices[1].device_id), damage)
        replies = await result_of(
            here.admissions.handle_batch, *(device.asks() for device in devices)
        )
        first, broken, last = replies
        assert (await broken if isinstance(broken, asyncio.Future) else broken) is None
        for reply in (first, last):
            assert isinstance(reply, bytes)
            assert isinstance(decode_answer(reply), Admitted)

    async def test_a_wrong_token_for_it_is_neither_refused_nor_counted(
        self, here: Replica, damage: bytes | None
    ) -> None:
        device = Device.new()
        await here.pair(device)
        await put_garbage(here, device_key(device.device_id), damage)
        question = device.asks(token="wrong", address="203.0.113.9")
        assert await here.answer(question) is None
        assert await here.redis.exists(guard_key("203.0.113.9")) == 0

    async def test_the_devices_are_listed_and_it_is_named(
        self, here: Replica, operator: Operator, damage: bytes | None
    ) -> None:
        well, broken = Device.new(), Device.new()
        await here.pair(well)
        await here.pair(broken)
        await put_garbage(here, device_key(broken.device_id), damage)
        for query in ("", "?limit=10"):
            listed = (await operator.get(f"/v1/devices{query}")).ok()
            assert [device["deviceId"] for device in listed["devices"]] == [well.device_id]
            assert listed["unreadable"] == [{"deviceId": broken.device_id}]
        reply = await operator.get(f"/v1/devices/{broken.device_id}")
        reply.problem(503, "unreadable-record")

    async def test_removed_it_may_ask_again(
        self, here: Replica, operator: Operator, damage: bytes | None
    ) -> None:
        device = Device.new()
        await here.pair(device)
        await put_garbage(here, device_key(device.device_id), damage)
        (await operator.call("DELETE", f"/v1/devices/{device.device_id}")).ok()
        listed = (await operator.get("/v1/devices")).ok()
        assert listed == {"devices": [], "total": 0} | {
            name: value for name, value in listed.items() if name not in {"devices", "unreadable"}
        }
        assert isinstance(await here.answer(device.asks()), NeedsPairing)
        last = (await operator.get("/v1/audit")).ok()["entries"][-2]
        assert (last["action"], last["deviceId"]) == ("removed", device.device_id)

    async def test_a_request_of_it_is_neither_ended_nor_approved(
        self, here: Replica, operator: Operator, damage: bytes | None
    ) -> None:
        device, other = Device.new(), Device.new()
        asked = await here.request(device.asks())
        await here.request(other.asks())
        await put_garbage(here, device_key(device.device_id), damage)
        (await operator.approve(asked.request_id)).problem(503, "unreadable-record")
        (waiting,) = (await operator.get("/v1/requests")).ok()["pending"]
        assert waiting["deviceId"] == other.device_id
        unreadable = (await operator.get("/v1/devices")).ok()["unreadable"]
        assert unreadable == [{"deviceId": device.device_id}]


@pytest.mark.parametrize("damage", [*GARBAGE, None])
async def test_a_request_whose_note_is_unreadable_can_be_approved(
    here: Replica, operator: Operator, damage: bytes | None
) -> None:
    asked = await here.request(Device.new().asks())
    await put_garbage(here, request_key(asked.request_id), damage)
    (await operator.approve(asked.request_id)).ok()


@pytest.mark.parametrize("damage", GARBAGE)
class TestOtherValues:
    async def test_an_unreadable_guard_delays_nobody(self, here: Replica, damage: bytes) -> None:
        device = Device.new()
        await here.pair(device)
        await put_garbage(here, guard_key("203.0.113.9"), damage)
        assert isinstance(await here.answer(device.asks(address="203.0.113.9")), Admitted)

    async def test_a_sighting_counts_as_none(
        self, here: Replica, operator: Operator, damage: bytes
    ) -> None:
        device = Device.new()
        await here.pair(device)
        await put_garbage(here, seen_key(device.device_id), damage)
        (shown,) = (await operator.get("/v1/devices")).ok()["devices"]
        assert "lastSeenAtMs" not in shown

    async def test_an_audit_entry_says_so_and_the_others_are_read(
        self, here: Replica, operator: Operator, damage: bytes
    ) -> None:
        await here.request(Device.new().asks())
        (stored,) = await here.redis.xrange(AUDIT)
        await here.redis.delete(AUDIT)
        await here.redis.xadd(AUDIT, {"entry": damage, "tag": stored[1][b"tag"]}, id=stored[0])
        await here.request(Device.new().asks())
        entries = (await operator.get("/v1/audit")).ok()["entries"]
        assert [(entry["id"], entry["action"]) for entry in entries] == [
            (1, "unreadable"),
            (2, "requested"),
        ]

    async def test_an_index_entry_without_a_device_delays_no_list(
        self, here: Replica, operator: Operator, damage: bytes
    ) -> None:
        device = Device.new()
        await here.pair(device)
        for index in (PAIRED, PENDING):
            await here.redis.zadd(index, {damage: 1})
        (shown,) = (await operator.get("/v1/devices")).ok()["devices"]
        assert shown["deviceId"] == device.device_id
        assert (await operator.get("/v1/requests")).ok()["pending"] == []


@pytest.mark.parametrize("damage", [*GARBAGE, None])
class TestLockouts:
    @pytest.mark.parametrize("key", [guard_key(ADDRESS), wrong_values_key(ADDRESS), LOCKOUTS])
    async def test_a_wrong_secret_is_counted_whatever_the_keys_hold(
        self, here: Replica, operator: Operator, damage: bytes | None, key: str
    ) -> None:
        await put_garbage(here, key, damage)
        for number in range(FAILURES_LIMIT):
            await here.store.lockouts.count(ADDRESS, {"shared-secret": [f"digest {number}"]})
        (lock,) = (await operator.get("/v1/lockouts")).ok()["lockouts"]
        assert lock["address"] == ADDRESS

    async def test_the_list_of_locks_is_read(
        self, here: Replica, operator: Operator, damage: bytes | None
    ) -> None:
        for number in range(FAILURES_LIMIT):
            await here.store.lockouts.count(ADDRESS, {"shared-secret": [f"digest {number}"]})
        await put_garbage(here, guard_key(ADDRESS), damage)
        assert (await operator.get("/v1/lockouts")).ok()["lockouts"] == []


@pytest.mark.parametrize("damage", [*GARBAGE, None])
@pytest.mark.parametrize(
    "key", [REFUSED, REFUSED_ADDRESSES, REFUSED_ROWS, REFUSALS_VERSION, PAIRED, PENDING, "device"]
)
async def test_refusals_are_written_and_read_whatever_the_keys_hold(
    here: Replica, operator: Operator, damage: bytes | None, key: str
) -> None:
    device = Device.new()
    await here.pair(device)
    await put_garbage(here, refused_key(device.device_id) if key == "device" else key, damage)
    report = RefusalReport(
        reason="token-mismatch",
        undecided=False,
        device_id=device.device_id,
        proven=True,
        address=ADDRESS,
        number=1,
        count=1,
        confirmed=0,
        age_ms=5,
        first_age_ms=5,
    )
    await here.store.refusals.write("gateway", [report], here.store.now_ms())
    (await operator.get("/v1/refusals?limit=10")).ok()
    if key not in {PAIRED, PENDING}:
        (shown,) = (await operator.get("/v1/devices")).ok()["devices"]
        assert shown["deviceId"] == device.device_id
