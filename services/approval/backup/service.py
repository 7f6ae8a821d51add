"""Backup and restore of the records, for operators: all paired devices, as of one change.

A backup is read in parts while changes go on. What changed meanwhile is read again, until nothing
did between a look at the change log and the read of all that it names: then all parts are as of
that change.

A restore comes in parts too, each of which is done once: what is kept under RESTORE says which
backup it is and how far it is. It begins only where no device is paired, and begins a new history:
with numbers above all that the backup knew, and a change log without any of the old.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from services.approval.backup import format as backups
from services.approval.backup.records import record_of, sighting_of, unsound
from services.approval.domain.errors import (
    NotAllowed,
    NotEmpty,
    OtherRestore,
    StoreUnavailable,
    UnreadableRecord,
    UnsoundDevice,
)
from services.approval.domain.records import EXPIRED
from services.approval.storage.keys import PAIRED, RESTORE, device_key
from services.approval.storage.presence import encode_sighting, seen_key
from services.approval.storage.transaction_log import Transaction, TransactionLog

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from services.approval.backup.format import Writer
    from services.approval.backup.records import KeptDevice
    from services.approval.domain.authorization import Caller
    from services.approval.storage.store import Store
    from shared.rpc.messages import Position

READ_DEVICES: Final = 200
"""How many records are read at once."""
READ_ENTRIES: Final = 1_000
"""How many changes, or entries of the audit log, are read at once."""
CAUGHT_UP_ROUNDS: Final = 1_000
"""After so many rounds in each of which something changed, a backup is given up."""
RESTORE_KEPT_MS: Final = 86_400_000
"""How long it is remembered which restore was begun, and how far it is."""
NUMBERS_APART: Final = 1_000_000
"""A restored history goes on above the next multiple of this."""
TRIES_LIMIT: Final = 32
"""How often a part is tried again because records changed while it was put together."""
BEGUN: Final = "restore-begun"
RESTORED: Final = "restored"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a backup: which one, of how many devices, and those from a place on."""

    backup_id: str
    number: int
    total: int
    at: int
    devices: Sequence[KeptDevice]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a restore is; `skipped`: devices of this part that were paired by others since."""

    done: int
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class _Mark:
    """What is kept of a restore: it begins with 16 characters that the commit compares."""

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
        """Yield the lines of a backup, many at a time; for operators only."""
        if not caller.is_admin:
            raise NotAllowed
        writer = backups.Writer()
        place, _held = await self._store.load([])
        yield writer.head(self._store.now_ms())
        device_ids = await self._store.paired_ids()
        for start in range(0, len(device_ids), READ_DEVICES):
            _head, lines = await self._lines(writer, device_ids[start : start + READ_DEVICES])
            yield lines
        async for lines, reached in self._caught_up(writer, place):
            place = reached
            yield lines
        after = 0
        while entries := await self._store.audit_log.read(after, READ_ENTRIES):
            told = [entry for entry in entries if entry.id <= place.number]
            yield b"".join(writer.audit(entry) for entry in told)
            if len(told) < len(entries):
                break
            after = entries[-1].id
        yield writer.end(place.number)

    async def restore(self, caller: Caller, part: Part) -> Progress:
        """Restore a part, if the restore is just there; for operators only.

        A part that was done before changes nothing. Devices that are paired by now are left alone.
        """
        if not caller.is_admin:
            raise NotAllowed
        if part.at + len(part.devices) > part.total:
            raise OtherRestore
        for device in part.devices:
            if why := unsound(device):
                message = f"{device.device_id}: {why}"
                raise UnsoundDevice(message)
        for _ in range(TRIES_LIMIT):
            progress = await self._restored(caller, part)
            if progress is not None:
                return progress
        message = "records changed again and again while they were restored"
        raise StoreUnavailable(message)

    async def _restored(self, caller: Caller, part: Part) -> Progress | None:
        """Try once; None when somebody else was quicker and all must be looked at anew."""
        paired = await self._store.count_paired()  # first: who is paired by then is marked
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
            self._begin(entry, part)
        fresh = await self._put(entry, part.devices)
        if done == part.total:
            entry.change(RESTORED, "", label=_called(part))
        entry.plan.write(
            "SET", RESTORE, _Mark(part.backup_id, done).encoded(), "PX", RESTORE_KEPT_MS
        )
        committed = await self._ledger.commit(entry)
        if committed.outcome != "done":
            return None
        return Progress(done, len(part.devices) - fresh)

    def _begin(self, entry: Transaction, part: Part) -> None:
        """Begin a new history: no gateway finds its place in this one, so all start over."""
        entry.plan.limit(PAIRED, 1, "")
        entry.plan.anew = True
        entry.plan.beyond = (part.number // NUMBERS_APART + 1) * NUMBERS_APART
        entry.change(BEGUN, "", label=_called(part))

    async def _put(self, entry: Transaction, devices: Sequence[KeptDevice]) -> int:
        """Put those that are not paired, and void what they ask for; returns how many."""
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
            seen = sighting_of(device)
            if seen is not None:
                entry.plan.write("SET", seen_key(device.device_id), encode_sighting(seen))
        return fresh

    async def _caught_up(
        self, writer: Writer, place: Position
    ) -> AsyncIterator[tuple[bytes, Position]]:
        """Read again what changed after a place, until nothing has; yield the place reached."""
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
        """Read these devices, and return the change they are as of, and their lines."""
        head, found = await self._store.load_surely(device_ids)
        for device_id, held in zip(device_ids, found, strict=True):
            if held.unreadable:
                raise UnreadableRecord(device_key(device_id))
        seen = await self._store.presence.sightings(device_ids)
        parts = zip(device_ids, found, seen, strict=True)
        return head, b"".join(writer.device(one, held.record, at) for one, held, at in parts)


def _mark(value: str) -> _Mark:
    if not value:
        return _Mark()
    if not value[8:16].isdecimal():
        raise UnreadableRecord(RESTORE)
    return _Mark(value[16:], int(value[8:16]))


def _called(part: Part) -> str:
    return f"{part.total} devices of backup {part.backup_id[:16]}, made at change {part.number}"
