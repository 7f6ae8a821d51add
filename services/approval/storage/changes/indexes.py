"""Rebuilds lost device indexes from the records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.approval.storage.changes.transaction import TransactionPlan, index_request
from services.approval.storage.keys import PAIRED, device_key

if TYPE_CHECKING:
    from services.approval.domain.records import VersionedRecord
    from services.approval.storage.changes.transaction_log import TransactionLog
    from services.approval.storage.store import Store

INDEXED_AT_ONCE: Final = 100
"""Records that one commit adds to the indexes."""
NOT_APPROVED_AT_MS: Final = 0
"""Score of an unreadable record among the paired devices, so that it is listed last."""


async def rebuild(store: Store, ledger: TransactionLog, ttl_ms: int) -> int:
    """Add every record to its indexes; return the number of records scanned.

    A record that changes after it was read is skipped or read again. Raises StoreUnavailable.
    """
    count = 0
    token = await store.repairs.begin_index()
    async for found in store.repairs.records():
        count += len(found)
        for start in range(0, len(found), INDEXED_AT_ONCE):
            await _put(store, ledger, found[start : start + INDEXED_AT_ONCE], ttl_ms)
    await store.repairs.indexed(token)
    return count


async def _put(store: Store, ledger: TransactionLog, device_ids: list[str], ttl_ms: int) -> None:
    """Add some records to the indexes; on a conflict, add them one by one."""
    _head, held = await store.load_surely(device_ids)
    plan = TransactionPlan()
    for device_id, one in zip(device_ids, held, strict=True):
        _add(plan, device_id, one, ttl_ms)
    committed = await ledger.run(plan)
    if committed.outcome != "conflict" or len(device_ids) == 1:
        return  # on a conflict of one record, the other commit has indexed it
    for device_id in device_ids:
        await _put(store, ledger, [device_id], ttl_ms)


def _add(plan: TransactionPlan, device_id: str, held: VersionedRecord, ttl_ms: int) -> None:
    if held.record is None and not held.unreadable:
        return
    plan.expect(device_key(device_id), held.version)
    if held.record is None:
        plan.write("ZADD", PAIRED, NOT_APPROVED_AT_MS, device_id)
        return
    pairing, pending = held.record.pairing, held.record.pending
    if pairing is not None:
        plan.write("ZADD", PAIRED, pairing.approved_at_ms, device_id)
    if pending is not None:
        index_request(plan, device_id, pending, ttl_ms, is_paired=pairing is not None)
