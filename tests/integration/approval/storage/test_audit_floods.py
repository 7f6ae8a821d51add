"""Entries caused by devices are limited and displace no operator's decision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.approval.domain.authorization import OPERATOR
from services.approval.registry import summaries
from services.approval.storage.changes import transaction as plans
from services.approval.storage.keys import AUDIT, DECISIONS, LEFT_OUT
from shared.rpc.messages import Position
from tests.support.approval.devices import Device

if TYPE_CHECKING:
    from tests.integration.approval.operator import Operator
    from tests.integration.approval.replica import Replica
    from tests.support.clock import FakeClock

ADDRESS = "203.0.113.9"
LIMIT = 5


@pytest.fixture(autouse=True)
def low_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (plans, summaries):
        monkeypatch.setattr(module, "ADDRESS_ENTRIES_PER_HOUR", LIMIT)
        monkeypatch.setattr(module, "DEVICE_ENTRIES_PER_HOUR", LIMIT)


async def flood(here: Replica, count: int = 3 * LIMIT) -> None:
    for _ in range(count):
        await here.request(Device.new().asks(address=ADDRESS))


async def actions(operator: Operator, query: str = "") -> list[str]:
    return [entry["action"] for entry in (await operator.get(f"/v1/audit{query}")).ok()["entries"]]


async def test_one_address_gets_so_many_entries_an_hour_and_all_is_done_still(
    here: Replica, operator: Operator
) -> None:
    await flood(here)
    assert await actions(operator) == ["requested"] * LIMIT
    assert (await here.store.load([]))[0].number == 3 * LIMIT
    assert len((await operator.get("/v1/requests")).ok()["pending"]) == 3 * LIMIT
    other = await here.request(Device.new().asks(address="198.51.100.7"))
    assert (await operator.get("/v1/audit")).ok()["entries"][-1]["requestId"] == other.request_id


async def test_what_was_left_out_is_summarised_once_when_the_hour_is_over(
    here: Replica, there: Replica, operator: Operator, clock: FakeClock
) -> None:
    await flood(here)
    assert await summaries.write_due(here.store, here.ledger) == 0
    clock.advance(3_600)
    written = [
        await summaries.write_due(replica.store, replica.ledger) for replica in (here, there)
    ]
    assert sum(written) == 1
    summary = (await operator.get("/v1/audit")).ok()["entries"][-1]
    assert (summary["action"], summary["actor"]) == ("left-out", "limit")
    assert summary["address"] == ADDRESS
    assert summary["label"].startswith(f"{2 * LIMIT} more entries in the hour from ")
    assert await here.redis.exists(LEFT_OUT) == 0
    await flood(here, 1)
    assert (await actions(operator))[-1] == "requested"


async def test_a_device_that_acts_on_itself_is_limited_and_an_operator_is_not(
    here: Replica, operator: Operator
) -> None:
    device = Device.new()
    await here.pair(device, "operator.pairing", "operator.read")
    caller = await here.socket(device, "operator.pairing", "operator.read")
    for number in range(2 * LIMIT):
        await here.registry.rename(caller, device.device_id, f"by itself {number}")
    assert (await actions(operator)).count("renamed") == LIMIT
    for number in range(2 * LIMIT):
        await here.registry.rename(OPERATOR, device.device_id, f"by an operator {number}")
    assert (await actions(operator)).count("renamed") == 3 * LIMIT


async def test_decisions_outlive_any_flood_and_keep_their_position(
    here: Replica, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "AUDIT_KEPT", 3)
    device = Device.new()
    await here.pair(device)  # numbers 1 and 2
    for number in range(9):
        await here.request(Device.new().asks(address=f"198.51.100.{number}"))
    assert [entry_id for entry_id, _ in await here.redis.xrange(AUDIT)] == [
        b"9-0",
        b"10-0",
        b"11-0",
    ]
    entries = (await operator.get("/v1/audit")).ok()["entries"]
    assert [(entry["id"], entry["action"]) for entry in entries] == [
        (2, "approved"),
        *((number, "requested") for number in (9, 10, 11)),
    ]
    assert await actions(operator, "?after=0&limit=2") == ["approved", "requested"]
    assert await actions(operator, "?after=2") == ["requested"] * 3


async def test_decisions_have_a_bound_of_their_own(
    here: Replica, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "DECISIONS_KEPT", 4)
    device = Device.new()
    await here.pair(device)
    for number in range(8):
        await here.registry.rename(OPERATOR, device.device_id, f"label {number}")
    assert await here.redis.zcard(DECISIONS) == 4


async def test_the_newest_are_read_without_a_number_and_in_the_same_order(
    here: Replica, operator: Operator
) -> None:
    for number in range(4):
        await here.request(Device.new().asks(address=f"198.51.100.{number}"))
    page = (await operator.get("/v1/audit?limit=2")).ok()
    assert [entry["id"] for entry in page["entries"]] == [3, 4]
    assert page["next"] == 4
    assert (await operator.get("/v1/audit?limit=100")).ok()["entries"][0]["id"] == 1
    assert (await operator.get("/v1/audit?after=0&limit=2")).ok()["next"] == 2


async def test_a_redis_user_of_an_earlier_release_reads_the_same(
    here: Replica, operator: Operator
) -> None:
    for number in range(4):
        await here.request(Device.new().asks(address=f"198.51.100.{number}"))
    await here.redis.execute_command("ACL", "SETUSER", "approval", "-xrevrange")
    try:
        page = (await operator.get("/v1/audit?limit=2")).ok()
    finally:
        await here.redis.execute_command("ACL", "SETUSER", "approval", "+xrevrange")
    assert [entry["id"] for entry in page["entries"]] == [3, 4]


async def test_a_follower_gets_all_entries_in_order_past_omitted_ones(
    here: Replica, operator: Operator
) -> None:
    await flood(here)
    head, _ = await here.store.load([])
    first = await here.store.audit_log.follow(Position(), 100)
    assert [entry.id for entry in first.entries] == list(range(1, LIMIT + 1))
    assert first.at == head
    device = Device.new()
    asked = await here.request(device.asks(address="198.51.100.7"))
    (await operator.approve(asked.request_id)).ok()
    received = await here.store.audit_log.follow(first.at, 100)
    assert [entry.action for entry in received.entries] == ["requested", "approved"]
    assert not received.lost
    again = await here.store.audit_log.follow(Position(head.number), 100)
    assert [entry.id for entry in again.entries] == [entry.id for entry in received.entries]
