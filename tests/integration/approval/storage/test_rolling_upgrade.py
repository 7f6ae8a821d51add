"""An approval of the previous release commits beside ours: one history, one audit log."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from services.approval.domain.records import AuditEntry
from services.approval.metrics import Metrics
from services.approval.registry.integrity import Integrity
from services.approval.storage.keys import AUDIT, CHANGES, HEAD, PAIRED, device_key
from shared.rpc.messages import Changed, HeartbeatQuestion, Position
from tests.integration.approval.storage.plans import plan, run
from tests.support.approval.devices import Device

if TYPE_CHECKING:
    from services.approval.storage.store import Store
    from tests.integration.approval.operator import Operator
    from tests.integration.approval.replica import Replica

OLD_COMMIT: Final = (
    Path(__file__).parents[3] / "data/redis/commit_of_the_release_before.lua"
).read_text()
KEPT: Final = (10_000, 100_000)


async def commit_as_before(
    here: Replica, action: str, *writes: tuple[str, int, tuple[str | int, ...]], keys: Any = ()
) -> tuple[str, int]:
    """Commit a change as the previous release does; returns the outcome and the number."""
    change = Changed(Position(), "", "device", action, 5)
    entry = AuditEntry(action, "device", "operator", 5)
    attempt = {
        "not_after": 0,
        "beyond": 0,
        "expects": [],
        "limits": [],
        "writes": writes,
        "changes": [(secrets.token_hex(8), 2, 3)],
        "kept": KEPT,
    }
    blobs = [msgspec.msgpack.encode(change), msgspec.json.encode(entry)]
    outcome, number, *_ = await here.redis.eval(
        OLD_COMMIT,
        3 + len(keys),
        HEAD,
        CHANGES,
        AUDIT,
        *keys,
        msgspec.msgpack.encode(attempt),
        *blobs,
    )
    return outcome.decode(), number


async def test_both_go_on_in_one_history_and_its_audit_log_is_whole(
    here: Replica, store: Store
) -> None:
    numbers = []
    for _ in range(3):
        outcome, number = await commit_as_before(here, "approved")
        assert outcome == "done"
        numbers += [number, (await run(store, plan())).change.number]
    assert numbers == [1, 2, 3, 4, 5, 6]
    entries = await store.audit_log.read(0, 10)
    assert [(entry.id, entry.action) for entry in entries] == [
        (number, "approved" if number % 2 else "renamed") for number in numbers
    ]
    assert [entry.id for entry in await store.audit_log.newest(2)] == [5, 6]
    followed = await store.audit_log.follow(Position(3), 10)
    assert ([entry.id for entry in followed.entries], followed.lost) == ([4, 5, 6], False)
    answer = await store.heartbeats.answer("gateway", HeartbeatQuestion(1, Position(), True, 0, 0))
    assert not answer.resync
    assert [change.change.number for change in answer.changes] == numbers


async def test_the_release_before_reads_our_decisions_in_the_log_it_knows(
    here: Replica, operator: Operator
) -> None:
    device = Device.new()
    await here.pair(device)
    stored = [entry_id for entry_id, _fields in await here.redis.xrange(AUDIT)]
    assert stored == [b"1-0", b"2-0"]


async def test_an_index_that_the_release_before_changed_is_looked_through_and_agrees(
    here: Replica, operator: Operator
) -> None:
    device = Device.new()
    await here.pair(device)
    record = await here.redis.get(device_key(device.device_id))
    other = Device.new()
    await here.pair(other)
    await here.redis.delete(device_key(device.device_id))
    await commit_as_before(here, "removed", ("ZREM", 4, (device.device_id,)), keys=(PAIRED,))
    assert (await here.store.repairs.look()).incomplete_index
    await Integrity(here.store, here.ledger, Metrics(), ttl_ms=3_600_000, ready=lambda: True).look()
    assert not (await here.store.repairs.look()).incomplete_index
    listed = (await operator.get("/v1/devices")).ok()["devices"]
    assert [item["deviceId"] for item in listed] == [other.device_id]
    assert record is not None
