"""Backup and restore of all paired devices, consistent as of one change; for operators only.

A backup is read in batches while changes go on. Records that changed meanwhile are read again,
until nothing has changed between a read of the change log and of the records it names. All data is
then as of that change.

A restore is also done in parts, each once: the RESTORE key holds the backup's id and the progress.
It starts only if no device is paired, and starts a new history, with an empty change log and
numbers above all those in the backup.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from services.approval.backup import format as backups
from services.approval.backup.records import last_seen_of, record_of, unsound
from services.approval.domain import authorization
from services.approval.domain.errors import (
    NotEmpty,
    OtherRestore,
    StoreUnavailable,
    UnreadableRecord,
    UnsoundDevice,
)
from services.approval.domain.permissions import Permission
from services.approval.domain.records import EXPIRED
from services.approval.storage.changes.transaction import Transaction
from services.approval.storage.heartbeats.presence import encode_last_seen
from services.approval.storage.keys import PAIRED, RESTORE, device_key, seen_key

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from services.approval.backup.format import Writer
    from services.approval.backup.records import BackupDevice
    from services.approval.domain.authorization import Caller
    from services.approval.storage.changes.transaction_log import TransactionLog
    from services.approval.storage.store import Store
    from shared.rpc.messages import Position

READ_DEVICES: Final = 200
"""Records read per batch."""
READ_ENTRIES: Final = 1_000
"""Changes or audit log entries read per batch."""
CAUGHT_UP_ROUNDS: Final = 1_000
"""A backup fails after this many rounds in which something changed."""
RESTORE_KEPT_MS: Final = 86_400_000
"""How long the progress of a restore is kept."""
NUMBERS_APART: Final = 1_000_000
"""A restored history is numbered from above the next multiple of this."""
TRIES_LIMIT: Final = 32
"""Max. attempts at a part that conflicts with concurrent changes."""
BEGUN: Final = "restore-begun"
RESTORED: Final = "restored"


@dataclass(frozen=True, slots=True)
class Part:
    """Part of a backup with `total` devices: those from index `at` on."""

    backup_id: str
    number: int
    total: int
    at: int
    devices: Sequence[BackupDevice]


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a restore; `skipped`: devices of this part that have been paired meanwhile."""

    done: int
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class _Mark:
    """Value of the RESTORE key; it begins with a version of 16 characters for the commit."""

    backup_id: str = ""
    done: int = 0

    @property
    def version(self) -> str:
        return f"{self.backup_id[:8]}{self.done:08d}" if self.backup_id else ""

    def encoded(self) -> str:
        return f"{self.version}{self.backup_id}"


class BackupService:
    """Makes backups and restores them. Every method may raise RegistryError."""

    def __init__(self, store: Store, ledger: TransactionLog) -> None:
        self._store = store
        self._ledger = ledger

    async def backup(self, caller: Caller) -> AsyncGenerator[bytes, None]:
        """Yield the lines of a backup in batches; for operators only."""
        authorization.require_admin(caller)
        authorization.require_permission(caller, Permission.MANAGE)
        writer = backups.Writer()
        place, _held = await self._store.load([])
        yield writer.head(self._store.now_ms())
        device_ids = await self._store.paired_ids()
        for start in range(0, len(device_ids), READ_DEVICES):
            _head, lines = await self._lines(writer, device_ids[start : start + READ_DEVICES])
            yield lines
        async for lines, reached in self._catch_up(writer, place):
            place = reached
            yield lines
        after = 0
        while entries := await self._store.audit_log.read(after, READ_ENTRIES):
            included = [entry for entry in entries if entry.id <= place.number]
            yield b"".join(writer.audit(entry) for entry in included)
            if len(included) < len(entries):
                break
            after = entries[-1].id
        yield writer.end(place.number)

    async def restore(self, caller: Caller, part: Part) -> Progress:
        """Restore a part if it continues the restore (idempotent); for operators only.

        Devices that have been paired meanwhile are not changed.
        """
        authorization.require_admin(caller)
        authorization.require_permission(caller, Permission.MANAGE)
        if part.at + len(part.devices) > part.total:
            raise OtherRestore
        for device in part.devices:
            if why := unsound(device):
                message = f"{device.device_id}: {why}"
                raise UnsoundDevice(message)
        for _ in range(TRIES_LIMIT):
            progress = await self._try_restore(caller, part)
            if progress is not None:
                return progress
        message = "the records could not be restored: they kept changing concurrently"
        raise StoreUnavailable(message)

    async def _try_restore(self, caller: Caller, part: Part) -> Progress | None:
        """Try once; return None on a conflict, after which everything must be read again."""
        paired = await self._store.count_paired()  # read before the mark, so it is never newer
        mark = _mark(await self._store.restore_mark())
        begins = part.at == 0 and not (mark.backup_id == part.backup_id and paired)
        if not begins:
            if mark.backup_id != part.backup_id or mark.done < part.at:
                raise OtherRestore
            if mark.done > part.at or mark.done == part.total:
                return Progress(mark.done)
        elif paired:
            raise NotEmpty
        done = part.at + len(part.devices)
        entry = Transaction(caller.name, self._store.now_ms())
        entry.plan.expect(RESTORE, mark.version)
        if begins:
            self._start_history(entry, part)
        fresh = await self._put(entry, part.devices)
        if done == part.total:
            entry.change(RESTORED, "", label=_label(part))
        entry.plan.write(
            "SET", RESTORE, _Mark(part.backup_id, done).encoded(), "PX", RESTORE_KEPT_MS
        )
        committed = await self._ledger.commit(entry)
        if committed.outcome != "done":
            return None
        return Progress(done, len(part.devices) - fresh)

    def _start_history(self, entry: Transaction, part: Part) -> None:
        """Start a new history, in which every gateway has to resync."""
        entry.plan.limit(PAIRED, 1, "")
        entry.plan.anew = True
        entry.plan.beyond = (part.number // NUMBERS_APART + 1) * NUMBERS_APART
        entry.change(BEGUN, "", label=_label(part))

    async def _put(self, entry: Transaction, devices: Sequence[BackupDevice]) -> int:
        """Add devices that are not paired and end their requests; return how many were added."""
        _head, found = await self._store.load_surely([device.device_id for device in devices])
        fresh = 0
        for device, held in zip(devices, found, strict=True):
            if held.unreadable:
                raise UnreadableRecord(device_key(device.device_id))
            if held.record is not None and held.record.pairing is not None:
                continue
            fresh += 1
            if held.record is not None and held.record.pending is not None:
                entry.end_request(device.device_id, held.record.pending, EXPIRED)
            entry.replace(held, record_of(device), device.device_id)
            seen = last_seen_of(device)
            if seen is not None:
                entry.plan.write("SET", seen_key(device.device_id), encode_last_seen(seen))
        return fresh

    async def _catch_up(
        self, writer: Writer, place: Position
    ) -> AsyncIterator[tuple[bytes, Position]]:
        """Read changed records until none is left; yield their lines and the position reached."""
        for _ in range(CAUGHT_UP_ROUNDS):
            reached, device_ids = await self._store.changed_after(place, READ_ENTRIES)
            head, lines = await self._lines(writer, device_ids)
            yield lines, reached
            if head == reached:
                return
            place = reached
        message = "records changed faster than they could be read"
        raise StoreUnavailable(message)

    async def _lines(self, writer: Writer, device_ids: Sequence[str]) -> tuple[Position, bytes]:
        """Read these devices; return the change they are as of, and their lines."""
        head, found = await self._store.load_surely(device_ids)
        for device_id, held in zip(device_ids, found, strict=True):
            if held.unreadable:
                raise UnreadableRecord(device_key(device_id))
        seen = await self._store.presence.last_seen(device_ids)
        parts = zip(device_ids, found, seen, strict=True)
        return head, b"".join(writer.device(one, held.record, at) for one, held, at in parts)


def _mark(value: str) -> _Mark:
    if not value:
        return _Mark()
    if not value[8:16].isdecimal():
        raise UnreadableRecord(RESTORE)
    return _Mark(value[16:], int(value[8:16]))


def _label(part: Part) -> str:
    return f"{part.total} devices of backup {part.backup_id[:16]}, made at change {part.number}"
