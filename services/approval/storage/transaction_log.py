"""Commits changes once, then publishes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from services.approval.domain.audit import AuditEntry
from services.approval.domain.errors import TooLate
from services.approval.domain.records import PENDING, RequestNote, encode
from services.approval.storage.keys import PAIRED as PAIRED_INDEX
from services.approval.storage.keys import PENDING as PENDING_INDEX
from services.approval.storage.keys import address_key, device_key, refused_key, request_key
from services.approval.storage.presence import seen_key
from services.approval.storage.transaction import Source, TransactionPlan
from shared.rpc.messages import Changed, Position

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.approval.domain.records import Pending, Record
    from services.approval.storage.store import Committed, Store, VersionedRecord

REQUEST_KEPT_MS: Final = 86_400_000
"""How long the outcome of a request is kept."""


class Transaction:
    """A commit under construction, in terms of records and requests."""

    def __init__(self, actor: str, now_ms: int, *, call_id: str = "") -> None:
        self.plan = TransactionPlan()
        self.now_ms = now_ms
        self._actor = actor
        self._call_id = call_id

    def require(self, device_id: str, version: str | bytes) -> None:
        """Require that a record is unchanged since it was read."""
        self.plan.expect(device_key(device_id), version)

    def replace(self, held: VersionedRecord, record: Record | None, device_id: str) -> None:
        """Replace the record that was read; None deletes it."""
        key = device_key(device_id)
        self.plan.expect(key, held.version)
        if record is None:
            self.plan.write("DEL", key)
            self.plan.write("DEL", seen_key(device_id))
            self.plan.write("DEL", refused_key(device_id))
        else:
            self.plan.put(key, encode(record))
        if record is not None and record.pairing is not None:
            self.plan.write("ZADD", PAIRED_INDEX, record.pairing.approved_at_ms, device_id)
        else:
            self.plan.write("ZREM", PAIRED_INDEX, device_id)

    def keep_request(self, device_id: str, pending: Pending, ttl_ms: int) -> None:
        """Add a request to the indexes until it expires."""
        expires = pending.refreshed_at_ms + ttl_ms
        self.plan.write("ZADD", PENDING_INDEX, expires, device_id)
        self.plan.write("ZADD", address_key(pending.limit_key), pending.created_at_ms, device_id)
        self._note(device_id, pending.request_id, PENDING, "", ttl_ms + REQUEST_KEPT_MS)

    def end_request(
        self, device_id: str, pending: Pending, state: str, successor: str = ""
    ) -> None:
        """Remove a request from the indexes, and keep its outcome for a day."""
        self.plan.write("ZREM", PENDING_INDEX, device_id)
        self.plan.write("ZREM", address_key(pending.limit_key), device_id)
        self._note(device_id, pending.request_id, state, successor, REQUEST_KEPT_MS)

    def forget_request(self, device_id: str) -> None:
        """Remove a device from the index of requests without knowing its request."""
        self.plan.write("ZREM", PENDING_INDEX, device_id)

    def forget_of_address(self, limit_key: str, device_id: str) -> None:
        """Remove a device without a request from an address's index of requests."""
        self.plan.write("ZREM", address_key(limit_key), device_id)

    def change(
        self,
        kind: str,
        device_id: str,
        *,
        closes: list[str] | None = None,
        pending: Pending | None = None,
        superseded: str = "",
        role: str = "",
        scopes: tuple[str, ...] = (),
        label: str = "",
        request: bytes = b"",
        source: Source | None = None,
    ) -> None:
        """Add a change of a device, to log and publish.

        `request` is the new request, as JSON for clients. Without a `source` the change is a
        person's decision.
        """
        request_id = pending.request_id if pending else ""
        self.plan.change(
            Changed(
                change=Position(),
                previous_tag="",
                device_id=device_id,
                kind=kind,
                at_ms=self.now_ms,
                closes=closes or [],
                request_id=request_id,
                superseded_id=superseded,
                request=request,
                call_id=self._call_id,
            ),
            AuditEntry(
                action=kind,
                device_id=device_id,
                actor=self._actor,
                at_ms=self.now_ms,
                request_id=request_id,
                superseded_request_id=superseded,
                role=pending.role if pending else role,
                roles=pending.roles if pending else (),
                scopes=pending.scopes if pending else scopes,
                label=label,
                address=pending.metadata.address if pending else "",
            ),
            source,
        )

    def _note(
        self, device_id: str, request_id: str, state: str, successor: str, kept_ms: int
    ) -> None:
        note = RequestNote(device_id, state, self.now_ms, successor)
        self.plan.write("SET", request_key(request_id), encode(note), "PX", kept_ms)


class TransactionLog:
    """Commits transactions and publishes their changes."""

    def __init__(self, store: Store, tell: Callable[[Changed], None]) -> None:
        self._store = store
        self._tell = tell

    async def commit(self, entry: Transaction) -> Committed:
        """Commit, and publish the changes before returning. Raises StoreUnavailable, TooLate."""
        committed = await self._store.commit(entry.plan)
        if committed.outcome == "late":
            raise TooLate
        if committed.outcome == "done":
            self._publish_all(entry.plan, committed)
        return committed

    def _publish_all(self, plan: TransactionPlan, committed: Committed) -> None:
        number = committed.change.number - len(plan.changes)
        previous = committed.previous_tag
        for change, tag in zip(plan.changes, plan.tags, strict=True):
            number += 1
            self._tell(
                msgspec.structs.replace(change, change=Position(number, tag), previous_tag=previous)
            )
            previous = tag
