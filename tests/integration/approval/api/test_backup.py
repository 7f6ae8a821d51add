"""Backup and restore over the HTTP API, on a real Redis."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from services.approval.backup import format as backups
from services.approval.backup.service import NUMBERS_APART, Part
from services.approval.domain.authorization import OPERATOR
from services.approval.domain.errors import NotAllowed
from shared.rpc.messages import Admitted, HeartbeatAnswer, HeartbeatQuestion, NeedsPairing, Position
from tests.integration.approval.operator import Operator
from tests.integration.approval.replica import ADMIN_TOKEN, TOKEN_SECRET
from tests.support.approval.callers import device_token
from tests.support.approval.devices import Device

if TYPE_CHECKING:
    from services.approval.backup.format import Backup
    from tests.integration.approval.operator import Reply
    from tests.integration.approval.replica import Replica
    from tools.support.processes.redis import RedisServer


async def backup(operator: Operator) -> Backup:
    """Read a backup, which must be complete."""
    reply = await operator.get("/v1/backup")
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/jsonl"
    return backups.read(reply.text.encode().splitlines(keepends=True))


def part(
    of: Backup, at: int = 0, maximum: int = 200, *, total: int | None = None, **other: Any
) -> dict[str, Any]:
    """Return the body of a call that restores this many devices from a position on."""
    devices = list(of.devices.values())
    return {
        "backupId": of.id,
        "number": of.number,
        "total": len(devices) if total is None else total,
        "at": at,
        "devices": msgspec.to_builtins(devices[at : at + maximum]),
        **other,
    }


async def restore(operator: Operator, body: dict[str, Any]) -> Reply:
    return await operator.post("/v1/restore", body)


async def beat(here: Replica, applied: Position, heartbeat_id: int = 1) -> HeartbeatAnswer:
    """Send the heartbeat of a gateway that has applied this change."""
    question = HeartbeatQuestion(
        heartbeat_id=heartbeat_id,
        applied=applied,
        booted=True,
        builds_on=0,
        connections=0,
        lease_ms=10_000,
    )
    return await here.store.heartbeats.answer("a gateway", question)


class TestBackup:
    async def test_a_backup_of_an_empty_store_is_empty(self, operator: Operator) -> None:
        found = await backup(operator)
        assert (found.devices, found.audit, found.number) == ({}, 0, 0)

    async def test_all_that_is_paired_and_nothing_that_waits(
        self, here: Replica, operator: Operator
    ) -> None:
        paired = [await here.paired() for _ in range(3)]
        await here.request(Device.new().asks())
        wider = await here.request(paired[0].asks(("operator.read", "operator.write")))
        found = await backup(operator)
        assert set(found.devices) == {device.device_id for device in paired}
        assert found.number == (await here.registry.head()).number
        assert found.audit == len(await operator.audit())
        text = (await operator.get("/v1/backup")).text
        assert f'"requestId":"{wider.request_id}"' in text, "the audit log records it"
        assert '"pending"' not in text

    async def test_no_token_and_no_secret_is_in_it(self, here: Replica, operator: Operator) -> None:
        device = Device.new()
        admitted = await here.pair(device)
        text = (await operator.get("/v1/backup")).text
        for secret in (admitted.device_token, TOKEN_SECRET, ADMIN_TOKEN):
            assert secret not in text

    async def test_what_changes_while_it_is_read_is_in_it_once_and_whole(
        self, here: Replica, operator: Operator
    ) -> None:
        """Its devices are those in the records at the change it names."""
        devices = [await here.paired() for _ in range(8)]
        over = asyncio.Event()

        async def change() -> None:
            number = 0
            while not over.is_set():
                number += 1
                device = devices[number % len(devices)]
                await here.registry.rename(OPERATOR, device.device_id, f"label {number}")
                if number % 5 == 0:
                    gone = devices.pop(number % len(devices))
                    await here.registry.remove(OPERATOR, gone.device_id)
                    devices.append(await here.paired())

        changing = asyncio.create_task(change())
        found = [await backup(operator) for _ in range(20)]
        over.set()
        await changing
        entries = await operator.audit()
        for item in found:
            labels: dict[str, str] = {}
            for entry in entries:
                if entry["id"] > item.number:
                    break
                device_id = entry["deviceId"]
                if entry["action"] == "approved":
                    labels[device_id] = ""
                elif entry["action"] == "renamed":
                    labels[device_id] = entry["label"]
                elif entry["action"] == "removed":
                    del labels[device_id]
            held = {key: value.pairing.operator_label for key, value in item.devices.items()}
            assert held == labels
        assert len({item.number for item in found}) > 1

    async def test_without_redis_it_is_a_problem(
        self, operator: Operator, redis_server: RedisServer
    ) -> None:
        redis_server.kill9()
        (await operator.get("/v1/backup")).problem(503, "store-unavailable")

    async def test_only_operators_may_make_a_backup(self, here: Replica) -> None:
        device = await here.paired()
        caller = device_token(device, "operator.pairing")
        with pytest.raises(NotAllowed):
            await anext(here.backups.backup(caller))
        with pytest.raises(NotAllowed):
            await here.backups.restore(caller, Part("0" * 64, 0, 0, 0, []))


class TestRestore:
    async def test_devices_connect_with_their_old_tokens(
        self, here: Replica, operator: Operator, redis_server: RedisServer
    ) -> None:
        device, other = Device.new(), Device.new()
        token = (await here.pair(device)).device_token
        old = (await here.pair(other)).device_token
        await here.registry.rotate(OPERATOR, other.device_id, "operator")
        shown = (await operator.get("/v1/devices")).ok()
        found = await backup(operator)
        redis_server.call("FLUSHALL")
        assert isinstance(await here.answer(device.asks()), NeedsPairing)
        done = (await restore(operator, part(found))).ok()
        assert done == {"done": 2, "skipped": 0}
        assert (await here.admit(device.asks(token=token))).device_token == token
        assert not isinstance(await here.answer(other.asks(token=old)), Admitted)
        assert (await operator.get("/v1/devices")).ok() == shown
        assert (await operator.get("/v1/requests")).ok() == {"pending": [], "total": 0}
        actions = [entry["action"] for entry in await operator.audit()]
        assert actions == ["requested", "restore-begun", "restored"]

    async def test_a_request_that_waited_is_void(
        self, here: Replica, operator: Operator, redis_server: RedisServer
    ) -> None:
        device = await here.paired()
        found = await backup(operator)
        redis_server.call("FLUSHALL")
        asked = await here.request(device.asks())
        (await restore(operator, part(found))).ok()
        (await operator.approve(asked.request_id)).problem(410, "request-expired")

    async def test_nothing_is_restored_where_a_device_is_paired(
        self, here: Replica, operator: Operator, redis_server: RedisServer
    ) -> None:
        await here.paired()
        found = await backup(operator)
        (await restore(operator, part(found))).problem(409, "not-empty")
        redis_server.call("FLUSHALL")
        stranger = await here.paired()
        (await restore(operator, part(found))).problem(409, "not-empty")
        listed = (await operator.get("/v1/devices")).ok()["devices"]
        assert [item["deviceId"] for item in listed] == [stranger.device_id]

    async def test_each_part_of_a_restore_is_done_once(
        self, here: Replica, there: Replica, operator: Operator, redis_server: RedisServer
    ) -> None:
        devices = [await here.paired() for _ in range(5)]
        found = await backup(operator)
        redis_server.call("FLUSHALL")
        async with Operator(there) as second:
            assert (await restore(operator, part(found, 0, 2))).ok()["done"] == 2
            (first, *_) = found.devices
            await here.registry.remove(OPERATOR, first)
            again = await restore(second, part(found, 0, 2))
            assert again.ok() == {"done": 2, "skipped": 0}
            (await operator.get(f"/v1/devices/{first}")).problem(404, "unknown-device")
            (await restore(second, part(found, 4, 1))).problem(409, "other-restore")
            assert (await restore(second, part(found, 2, 2))).ok()["done"] == 4
            assert (await restore(operator, part(found, 4, 2))).ok()["done"] == 5
            assert (await restore(operator, part(found, 4, 2))).ok()["done"] == 5
            assert (await restore(operator, part(found, 0, 2))).ok()["done"] == 5
        assert len((await operator.get("/v1/devices")).ok()["devices"]) == len(devices) - 1
        actions = [entry["action"] for entry in await operator.audit()]
        assert actions == ["restore-begun", "removed", "restored"]

    async def test_a_device_paired_again_meanwhile_is_left_alone(
        self, here: Replica, operator: Operator, redis_server: RedisServer
    ) -> None:
        first, second = await here.paired(), await here.paired()
        found = await backup(operator)
        redis_server.call("FLUSHALL")
        (await restore(operator, part(found, 0, 1))).ok()
        (last,) = {first, second} - {d for d in (first, second) if d.device_id in _first(found)}
        token = (await here.pair(last)).device_token
        assert (await restore(operator, part(found, 1, 1))).ok() == {"done": 2, "skipped": 1}
        await here.admit(last.asks(token=token))

    async def test_no_restore_starts_in_the_middle_of_another(
        self, here: Replica, operator: Operator, redis_server: RedisServer
    ) -> None:
        for _ in range(2):
            await here.paired()
        found = await backup(operator)
        redis_server.call("FLUSHALL")
        (await restore(operator, part(found, 1, 1))).problem(409, "other-restore")
        (await restore(operator, part(found, 0, 1))).ok()
        other = part(found, 1, 1, backupId=hashlib.sha256(b"another").hexdigest())
        (await restore(operator, other)).problem(409, "other-restore")
        (await restore(operator, part(found, 1, 1, total=1))).problem(409, "other-restore")

    async def test_two_at_once_are_one(
        self, here: Replica, there: Replica, operator: Operator, redis_server: RedisServer
    ) -> None:
        for _ in range(3):
            await here.paired()
        found = await backup(operator)
        redis_server.call("FLUSHALL")
        async with Operator(there) as second:
            replies = await asyncio.gather(
                *(restore(item, part(found)) for item in (operator, second) * 3)
            )
        assert [reply.ok() for reply in replies] == [{"done": 3, "skipped": 0}] * 6
        actions = [entry["action"] for entry in await operator.audit()]
        assert actions == ["restore-begun", "restored"]

    async def test_what_contradicts_itself_restores_nothing(
        self, here: Replica, operator: Operator, redis_server: RedisServer
    ) -> None:
        await here.paired()
        found = await backup(operator)
        redis_server.call("FLUSHALL")
        body = part(found)
        body["devices"][0]["deviceId"] = Device.new().device_id
        (await restore(operator, body)).problem(409, "unsound-device")
        assert (await operator.audit()) == []

    async def test_restoring_an_empty_backup_changes_nothing(self, operator: Operator) -> None:
        found = await backup(operator)
        assert (await restore(operator, part(found))).ok() == {"done": 0, "skipped": 0}


class TestHistory:
    async def test_no_gateway_takes_it_for_one_it_knows(
        self, here: Replica, operator: Operator, redis_server: RedisServer
    ) -> None:
        places = [Position()]
        for _ in range(4):
            await here.paired()
            places.append(await here.registry.head())
        found = await backup(operator)
        await here.request(Device.new().asks())
        places.append(await here.registry.head())
        redis_server.call("FLUSHALL")
        await here.request(Device.new().asks())
        places.append(await here.registry.head())
        (await restore(operator, part(found, 0, 2))).ok()
        (await restore(operator, part(found, 2, 2))).ok()
        for heartbeat_id, place in enumerate(places, 1):
            answer = await beat(here, place, heartbeat_id)
            assert answer.resync, place
            assert answer.changes == []

    async def test_an_up_to_date_gateway_continues(
        self, here: Replica, operator: Operator, redis_server: RedisServer
    ) -> None:
        for _ in range(2):
            await here.paired()
        found = await backup(operator)
        redis_server.call("FLUSHALL")
        (await restore(operator, part(found, 0, 1))).ok()
        begun = await here.registry.head()
        assert begun.number == NUMBERS_APART + 1
        (await restore(operator, part(found, 1, 1))).ok()
        answer = await beat(here, begun)
        assert not answer.resync
        assert [change.kind for change in answer.changes] == ["restored"]
        again = await backup(operator)
        assert again.number == NUMBERS_APART + 2
        assert again.devices == found.devices

    async def test_the_audit_log_continues_above_all_earlier_numbers(
        self, here: Replica, operator: Operator, redis_server: RedisServer
    ) -> None:
        await here.paired()
        last = (await operator.audit())[-1]["id"]
        found = await backup(operator)
        redis_server.call("FLUSHALL")
        (await restore(operator, part(found))).ok()
        page = (await operator.get(f"/v1/audit?after={last}")).ok()
        assert [entry["action"] for entry in page["entries"]] == ["restore-begun", "restored"]


def _first(found: Backup) -> set[str]:
    return {next(iter(found.devices))}
