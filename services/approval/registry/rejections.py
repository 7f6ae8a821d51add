"""Rejects many requests in one commit, and reports how the others had ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from services.approval.domain import pairing as grants
from services.approval.domain.errors import RequestOver
from services.approval.domain.records import (
    NOT_HELD,
    PENDING,
    REJECTED,
    holds_request,
    open_request,
)
from services.approval.storage.setup_codes import add_revocation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.approval.domain.records import Pending, RequestNote, VersionedRecord
    from services.approval.storage.changes.transaction import Transaction
    from services.approval.storage.store import Store

UNKNOWN: Final = "unknown"
"""State of a request id that is neither pending nor ended within the last day."""


class RejectedRequest(msgspec.Struct, frozen=True):
    """A request that is rejected, by this call or earlier, and its device."""

    request_id: str
    device_id: str


class EndedRequest(msgspec.Struct, frozen=True):
    """A request that had already ended, and how: `state` is UNKNOWN if the id is not known."""

    request_id: str
    state: str
    successor: str = ""


class Rejections(msgspec.Struct, frozen=True):
    """Result of rejecting several requests."""

    rejected: list[RejectedRequest]
    ended: list[EndedRequest]


async def plan_rejections(
    store: Store, entry: Transaction, request_ids: Sequence[str], ttl_ms: int, actor: str
) -> tuple[Rejections, bool]:
    """Add the rejection of each pending request to a transaction.

    Return what the commit will have done, and whether it rejects anything that was pending.
    """
    result = Rejections([], [])
    writes = False
    ended: list[Pending] = []
    for request_id, note, held in await _read_all(store, request_ids):
        if note is None:
            result.ended.append(EndedRequest(request_id, UNKNOWN))
            continue
        if note.state == REJECTED:
            entry.require(note.device_id, held.version)
            result.rejected.append(RejectedRequest(request_id, note.device_id))
            continue
        if held.unreadable and note.state == PENDING:
            continue  # neither ended nor rejected: its device has to be removed
        try:
            record, pending = open_request(
                request_id, note, held.record, now_ms=entry.now_ms, ttl_ms=ttl_ms
            )
        except RequestOver as over:
            result.ended.append(EndedRequest(request_id, over.state, over.successor))
            continue
        entry.replace(held, grants.without_pending(record), note.device_id)
        entry.end_request(note.device_id, pending, REJECTED)
        entry.turn_away(note.device_id)
        entry.change("rejected", note.device_id, pending=pending)
        result.rejected.append(RejectedRequest(request_id, note.device_id))
        ended.append(pending)
        writes = True
    await revoke_codes(store, entry, ended, actor)
    return result, writes


async def revoke_codes(
    store: Store, entry: Transaction, rejected: Sequence[Pending], actor: str
) -> None:
    """Add the revocation of the setup codes that rejected devices presented."""
    wanted = dict.fromkeys(setup_id for pending in rejected for setup_id in pending.setup_ids)
    for held in await store.setup_codes.load([*wanted]):
        if held.code is not None and held.code.is_live(entry.now_ms):
            add_revocation(entry, held, actor)


async def _read_all(
    store: Store, request_ids: Sequence[str]
) -> list[tuple[str, RequestNote | None, VersionedRecord]]:
    """Read the state of these requests and their devices, in at most three round trips.

    If a request ended between the two reads, its note is read again, so that it is never older
    than the record.
    """
    notes = await store.notes(request_ids)
    _head, held = await store.load([one.device_id for one in notes if one])
    records = {one.device_id: its for one, its in zip(filter(None, notes), held, strict=True)}
    found = list(zip(request_ids, notes, strict=True))
    moved = [
        request_id
        for request_id, note in found
        if note
        and note.state == PENDING
        and not holds_request(records[note.device_id].record, request_id)
    ]
    again = dict(zip(moved, await store.notes(moved), strict=True))
    return [
        (request_id, again.get(request_id, note), records[note.device_id] if note else NOT_HELD)
        for request_id, note in found
    ]
