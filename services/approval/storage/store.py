"""Reads the registry's data in Redis: records, notes on requests, and the indexes of devices."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from redis.exceptions import ResponseError

from services.approval.domain.errors import StoreUnavailable, UnreadableRecord
from services.approval.domain.listing import PageCursor
from services.approval.domain.lockout import NOTHING_HELD, FailureCounts, read_guard
from services.approval.domain.records import (
    NOT_HELD,
    VERSION_CHARACTERS,
    Record,
    RequestNote,
    VersionedRecord,
    decode_note,
    decode_record,
)
from services.approval.domain.records import PENDING as PENDING_STATE
from services.approval.storage.changes.audit_log import AuditLog
from services.approval.storage.changes.changelog import (
    InvalidHead,
    UnreadableLog,
    changed_after,
    decode_head,
)
from services.approval.storage.changes.repairs import Repairs
from services.approval.storage.changes.transaction import WRONG_TYPE
from services.approval.storage.heartbeats.address_book import AddressBook
from services.approval.storage.heartbeats.leases import Heartbeats, LivenessStore
from services.approval.storage.heartbeats.presence import Presence
from services.approval.storage.heartbeats.refusals import Refusals
from services.approval.storage.keys import (
    CHANGES,
    HEAD,
    PAIRED,
    PENDING,
    RESTORE,
    device_key,
    guard_key,
    request_key,
)
from services.approval.storage.lockouts import LockoutStore
from services.approval.storage.operators import OperatorStore
from services.approval.storage.reads import read_with, values_of, without_error
from services.approval.storage.redis import reaching_redis
from services.approval.storage.rules import RuleStore
from services.approval.storage.sessions import SessionStore
from services.approval.storage.setup_codes import SetupCodeStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from services.approval.storage.reads import Read, Values
    from shared.clock import Clock
    from shared.rpc.messages import Position

RECORDS_REMEMBERED: Final = 2_048
"""Size of the cache of decoded records, keyed by their stored bytes."""
CONFIRM_MS: Final = 50
"""How long a check waits for the confirmation of a Redis replica, if there is one."""


@dataclass(frozen=True, slots=True)
class Listed:
    """The records listed in an index, and the ids of those that cannot be read."""

    records: list[Record]
    unreadable: list[str]


class Snapshot(NamedTuple):
    """What one MGET has read: the newest change, records, and failure counts by limit key."""

    head: Position
    records: list[VersionedRecord]
    failures: dict[str, FailureCounts]


Then = Callable[["Snapshot | Exception"], None]


class Store:
    """Reads the data in Redis. Every method may raise StoreUnavailable.

    `read` replaces the client's MGET by a faster implementation. Operations that leases depend on
    (heartbeats and this replica's liveness) use the connections of `lease`, if given. With
    `always_replicated`, a commit waits for a Redis replica even if none is connected: after a
    failover, the new primary has none for a moment.
    """

    def __init__(
        self,
        client: Redis,
        clock: Clock,
        read: Read | None = None,
        lease: Redis | None = None,
        *,
        always_replicated: bool = False,
    ) -> None:
        self.client: Final[Any] = client  # its types allow bytes and str; all values are bytes
        self._read = read or read_with(client)
        self._repairing: set[asyncio.Task[None]] = set()
        self.always_replicated: Final = always_replicated
        self.has_replicas = always_replicated
        """Whether a commit has to wait for a Redis replica."""
        self.liveness: Final = LivenessStore(lease or client, clock)
        self.now_ms = self.liveness.now_ms
        """Returns Redis's time as last learned, the common clock of all approval replicas."""
        self.presence: Final = Presence(client)
        self.sessions: Final = SessionStore(client)
        self.rules: Final = RuleStore(client, self._read)
        self.operators: Final = OperatorStore(client, self._read, self.now_ms)
        self.setup_codes: Final = SetupCodeStore(client, self._read, self.now_ms)
        self.addresses: Final = AddressBook(client, clock)
        self.lockouts: Final = LockoutStore(client, clock)
        self.refusals: Final = Refusals(client, lease)
        self.audit_log: Final = AuditLog(client)
        self.repairs: Final = Repairs(client, self.now_ms)
        self.heartbeats: Final = Heartbeats(lease or client, self.repairs)

    async def info(self) -> dict[str, Any] | None:
        """Return the reply to INFO; None if it is refused."""
        async with reaching_redis():
            try:
                found: dict[str, Any] = await self.client.info("everything")
            except ResponseError:  # managed services may refuse it
                return None
        return found

    async def confirming_replicas(self) -> int | None:
        """Return how many Redis replicas confirm in time; None if WAIT is refused."""
        async with reaching_redis():
            try:
                return int(await self.client.wait(1, CONFIRM_MS))
            except ResponseError:
                return None

    async def appendfsync(self) -> str | None:
        """Return the setting `appendfsync` of Redis; None if it cannot be read."""
        async with reaching_redis():
            try:
                found: dict[str, str] = await self.client.config_get("appendfsync")
            except ResponseError:  # no permission or unknown: managed services often lack CONFIG
                return None
        return found.get("appendfsync")

    def read(self, device_ids: Sequence[str], limit_keys: Sequence[str], then: Then) -> None:
        """Do what `snapshot` does, without a task.

        `then` gets the result, or the error, in a later turn of the event loop.
        """
        keys = _snapshot_keys(device_ids, limit_keys)
        self._read(keys, partial(self._on_values, device_ids, limit_keys, then))

    def _on_values(
        self,
        device_ids: Sequence[str],
        limit_keys: Sequence[str],
        then: Then,
        values: Values | Exception,
    ) -> None:
        found: Snapshot | Exception
        try:
            found = _snapshot(without_error(values), device_ids, limit_keys)
        except InvalidHead:
            repairing = asyncio.ensure_future(self._read_slowly(device_ids, limit_keys, then))
            self._repairing.add(repairing)
            repairing.add_done_callback(self._repairing.discard)
            return
        except Exception as error:  # noqa: BLE001 (passed on)
            found = error
        then(found)

    async def _read_slowly(
        self, device_ids: Sequence[str], limit_keys: Sequence[str], then: Then
    ) -> None:
        found: Snapshot | Exception
        try:
            found = await self.snapshot(device_ids, limit_keys)
        except Exception as error:  # noqa: BLE001 (passed on)
            found = error
        then(found)

    async def snapshot(self, device_ids: Sequence[str], limit_keys: Sequence[str] = ()) -> Snapshot:
        """Read the newest change, records and failure counts, in one round trip.

        An invalid head is repaired first.
        """
        keys = _snapshot_keys(device_ids, limit_keys)
        try:
            return _snapshot(await values_of(self._read, keys), device_ids, limit_keys)
        except InvalidHead:
            await self.repairs.repair(HEAD)
            return _snapshot(await values_of(self._read, keys), device_ids, limit_keys)

    async def load(self, device_ids: Sequence[str]) -> tuple[Position, list[VersionedRecord]]:
        """Read the newest change and the records of these devices, in one round trip."""
        head, held, _failures = await self.snapshot(device_ids)
        return head, held

    async def load_surely(
        self, device_ids: Sequence[str]
    ) -> tuple[Position, list[VersionedRecord]]:
        """Do what `load` does, and distinguish absent records from keys of a wrong type.

        MGET returns nil for both, so absent records cost a further round trip.
        """
        head, held, _failures = await self.snapshot(device_ids)
        if NOT_HELD in held:
            absent = [one for one, read in zip(device_ids, held, strict=True) if read is NOT_HELD]
            other = await self._of_other_type(absent)
            held = [
                _OTHER_TYPE if read is NOT_HELD and one in other else read
                for one, read in zip(device_ids, held, strict=True)
            ]
        return head, held

    async def is_unreadable(self, device_id: str) -> bool:
        """Return whether the key of this device holds anything but a valid record."""
        _head, (held,) = await self.load_surely([device_id])
        return held.unreadable

    async def _of_other_type(self, device_ids: Sequence[str]) -> set[str]:
        """Return those whose key has a wrong type, but not records created just now."""
        keys = [device_key(one) for one in device_ids]
        async with reaching_redis():
            if not await self.client.exists(*keys):
                return set()
            pipeline = self.client.pipeline(transaction=False)
            for key in keys:
                pipeline.get(key)
            found = await pipeline.execute(raise_on_error=False)
        return {
            one
            for one, value in zip(device_ids, found, strict=True)
            if isinstance(value, ResponseError) and "WRONGTYPE" in str(value)
        }

    async def note(self, request_id: str) -> RequestNote | None:
        """Read the note on a request id."""
        (note,) = await self.notes([request_id])
        return note

    async def notes(self, request_ids: Sequence[str]) -> list[RequestNote | None]:
        """Read the notes on these request ids, in one round trip."""
        if not request_ids:
            return []
        keys = [request_key(one) for one in request_ids]
        found: list[Any] = list(await values_of(self._read, keys))
        absent = [key for key, value in zip(keys, found, strict=True) if value is None]
        if absent:
            # MGET returns nil for a key of a wrong type, as if the request never existed.
            async with reaching_redis():
                if await self.client.exists(*absent):
                    pipeline = self.client.pipeline(transaction=False)
                    for key in keys:
                        pipeline.get(key)
                    found = await pipeline.execute(raise_on_error=False)
        return [
            None if value is None else await self._note(one, value)
            for one, value in zip(request_ids, found, strict=True)
        ]

    async def _note(self, request_id: str, value: bytes | Exception) -> RequestNote:
        """Decode a note; rebuild an unreadable one from its pending request."""
        if not isinstance(value, Exception):
            try:
                return decode_note(value)
            except (msgspec.MsgspecError, ValueError):
                pass
        return await self._note_of_pending(request_id)

    async def _note_of_pending(self, request_id: str) -> RequestNote:
        """Rebuild an unreadable note from its pending request."""
        for record in (await self.pending()).records:
            pending = record.pending
            if pending is not None and pending.request_id == request_id:
                return RequestNote(record.device_id, PENDING_STATE, pending.created_at_ms)
        raise UnreadableRecord(request_key(request_id))

    async def paired(self) -> Listed:
        """Read all paired devices, most recently approved first."""
        return await self._listed(PAIRED, newest_first=True)

    async def paired_after(self, after: PageCursor | None, limit: int) -> list[PageCursor]:
        """Return cursors of the paired devices after a cursor, most recently approved first."""
        found: list[PageCursor] = []
        offset = 0
        while len(found) < limit:
            async with reaching_redis():
                part = await self.client.zrange(
                    PAIRED,
                    "+inf" if after is None else after.at_ms,
                    "-inf",
                    desc=True,
                    byscore=True,
                    withscores=True,
                    offset=offset,
                    num=limit,
                )
            offset += len(part)
            positions = [PageCursor(int(score), member.decode()) for member, score in part]
            found += [one for one in positions if after is None or one < after]
            if len(part) < limit:
                break
        return found[:limit]

    async def records(self, device_ids: Sequence[str]) -> Listed:
        """Read the records of these devices, skipping devices without one."""
        if not device_ids:
            return Listed([], [])
        _head, held = await self.load_surely(device_ids)
        return Listed(
            [one.record for one in held if one.record is not None],
            [device_id for device_id, one in zip(device_ids, held, strict=True) if one.unreadable],
        )

    async def paired_ids(self) -> list[str]:
        """Return the ids of all paired devices, earliest approved first."""
        async with reaching_redis():
            found = await self.client.zrange(PAIRED, 0, -1)
        return [member.decode() for member in found]

    async def count_paired(self) -> int:
        """Return the number of paired devices."""
        async with reaching_redis():
            return int(await self.client.zcard(PAIRED))

    async def restore_mark(self) -> str:
        """Return the mark of the last restore; empty if there is none."""
        async with reaching_redis():
            try:
                value = await self.client.get(RESTORE)
            except ResponseError as error:
                if "WRONGTYPE" in str(error):
                    raise UnreadableRecord(RESTORE) from None
                raise
        return (value or b"").decode(errors="replace")

    async def changed_after(self, place: Position, limit: int) -> tuple[Position, list[str]]:
        """Return the devices whose records changed after a position, and the position reached.

        Raises StoreUnavailable if the change log no longer contains the position.
        """
        async with reaching_redis():
            found = await self.client.xrange(
                CHANGES, min=f"{place.number}-0", max="+", count=limit + 1
            )
        try:
            return changed_after(place, found)
        except UnreadableLog:
            message = f"{CHANGES} holds an entry that cannot be read"
            raise StoreUnavailable(message) from None

    async def pending(self) -> Listed:
        """Read all devices with a request, in no particular order."""
        return await self._listed(PENDING, newest_first=False)

    async def expired(self, now_ms: int, limit: int) -> list[str]:
        """Return the ids of devices whose request has expired."""
        async with reaching_redis():
            found = await self.client.zrangebyscore(PENDING, "-inf", now_ms, start=0, num=limit)
        return [member.decode() for member in found]

    async def _listed(self, index: str, *, newest_first: bool) -> Listed:
        async with reaching_redis():
            members = await self.client.zrange(index, 0, -1, desc=newest_first)
        return await self.records([member.decode(errors="replace") for member in members])


def _snapshot_keys(device_ids: Sequence[str], limit_keys: Sequence[str]) -> list[str]:
    return [HEAD, *map(device_key, device_ids), *map(guard_key, limit_keys)]


def _snapshot(
    values: Sequence[bytes | None], device_ids: Sequence[str], limit_keys: Sequence[str]
) -> Snapshot:
    """Decode the values of `_snapshot_keys`; raises InvalidHead."""
    count = len(device_ids) + 1
    records = [NOT_HELD if value is None else _decoded(value) for value in values[1:count]]
    failures = dict.fromkeys(limit_keys, NOTHING_HELD)
    for limit_key, value in zip(limit_keys, values[count:], strict=True):
        if value is not None:
            failures[limit_key] = read_guard(value)
    return Snapshot(decode_head(values[0]), records, failures)


@lru_cache(RECORDS_REMEMBERED)
def _decoded(value: bytes) -> VersionedRecord:
    """Decode a record; records are immutable, so equal bytes can share one object."""
    version = value[:VERSION_CHARACTERS]
    try:
        return VersionedRecord(version.decode(), decode_record(value[VERSION_CHARACTERS:]))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return VersionedRecord(version, None, unreadable=True)


_OTHER_TYPE: Final = VersionedRecord(WRONG_TYPE, None, unreadable=True)
