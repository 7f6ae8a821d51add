"""The registry's store in Redis: one record per device, changed by a single commit script."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from redis.exceptions import ResponseError

from services.approval.domain.errors import StoreUnavailable, UnreadableRecord
from services.approval.domain.listing import PageCursor
from services.approval.domain.lockout import FailureCounts, read_guard
from services.approval.domain.records import PENDING as PENDING_STATE
from services.approval.domain.records import (
    VERSION_CHARACTERS,
    Record,
    RequestNote,
    decode_note,
    decode_record,
)
from services.approval.storage.address_book import AddressBook
from services.approval.storage.audit_log import AuditLog
from services.approval.storage.changelog import (
    UnreadableLog,
    changed_after,
    decode_changes,
    decode_head,
    is_head,
)
from services.approval.storage.keys import (
    CHANGES,
    CONFIRMED,
    HEAD,
    LEFT_OUT,
    PAIRED,
    PENDING,
    RESTORE,
    address_key,
    call_key,
    device_key,
    guard_key,
    request_key,
)
from services.approval.storage.lockouts import LockoutStore
from services.approval.storage.presence import (
    ALIVE_KEPT_MS,
    APPROVALS,
    GATEWAYS,
    PRESENCE_KEPT_MAX_MS,
    PRESENCE_VERSION,
    Presence,
    approval_key,
    beat_arguments,
    encode_process,
    presence_key,
    seen_key,
)
from services.approval.storage.reaching import reaching_redis
from services.approval.storage.refusals import Refusals
from services.approval.storage.repairs import Repairs, script
from services.approval.storage.sessions import SessionStore
from services.approval.storage.transaction import WRONG_TYPE, TransactionPlan
from shared.rpc.messages import BeatAnswer, Position

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from shared.clock import Clock
    from shared.rpc.messages import BeatQuestion

WAIT_MS: Final = 1_000
"""How long a commit waits for a Redis replica's confirmation, if there are replicas."""

BEAT_CHANGES_LIMIT: Final = 256
"""Max. changes in one answer to a heartbeat (R4)."""
BEAT_LIMIT_BYTES: Final = 1024 * 1024
"""Max. total size of these changes, so that many answers fit into one message."""

RECORDS_REMEMBERED: Final = 2_048
"""Size of the cache of decoded records, keyed by their stored bytes."""

REPAIRS_LIMIT: Final = 3
"""Max. keys that one commit or heartbeat repairs before it fails."""


class VersionedRecord(msgspec.Struct, frozen=True):
    """A device's record with the version that was read; both are empty if there is none.

    `unreadable`: the record exists but cannot be decoded.
    """

    version: str | bytes
    record: Record | None
    unreadable: bool = False


@dataclass(frozen=True, slots=True)
class Listed:
    """The records listed in an index, and the ids of those that cannot be read."""

    records: list[Record]
    unreadable: list[str]


@dataclass(frozen=True, slots=True)
class Committed:
    """Outcome of a plan (`done`, `seen`, `late`, `conflict` or `full`) and the newest change.

    `answer` is the result of an earlier attempt of the same call (`seen`).
    """

    outcome: str
    change: Position
    answer: bytes
    previous_tag: str


ReadKeys = Callable[[list[str]], Awaitable[list[bytes | None]]]


class Store:
    """Reads and changes the data in Redis. Every method may raise StoreUnavailable.

    `mget` replaces the client's MGET by a faster implementation. Operations that leases depend on
    (heartbeats and this replica's liveness) use the connections of `lease`, if given.
    """

    def __init__(
        self,
        client: Redis,
        clock: Clock,
        mget: ReadKeys | None = None,
        lease: Redis | None = None,
    ) -> None:
        self._client: Any = client  # its types allow bytes and str; all values here are bytes
        self._lease: Any = lease or client
        self._mget = mget or cast("ReadKeys", client.mget)
        self._clock = clock
        self._commit = client.register_script(script("commit.lua"))
        self._beat = self._lease.register_script(script("beat.lua"))
        self._offset_ms: float | None = None
        self.has_replicas = False
        self.presence: Final = Presence(client)
        self.sessions: Final = SessionStore(client)
        self.addresses: Final = AddressBook(client, clock)
        self.lockouts: Final = LockoutStore(client, clock)
        self.refusals: Final = Refusals(client, lease)
        self.audit_log: Final = AuditLog(client)
        self.repairs: Final = Repairs(client, self.now_ms)

    def now_ms(self) -> int:
        """Return Redis's time as last learned; it is the common clock of all approval replicas."""
        if self._offset_ms is None:
            return self._clock.wall_ms()
        return int(self._clock.monotonic() * 1000 + self._offset_ms)

    async def write_alive(self, boot_id: str, *, uptime_s: int = 0) -> None:
        """Record that this replica is alive, and learn Redis's time."""
        if self._offset_ms is None:
            await self._learn_time()
        now_ms = self.now_ms()
        began = self._clock.monotonic()
        async with reaching_redis():
            pipeline = self._lease.pipeline(transaction=False)
            pipeline.zadd(APPROVALS, {boot_id: now_ms})
            pipeline.zremrangebyscore(APPROVALS, "-inf", now_ms - ALIVE_KEPT_MS)
            pipeline.set(approval_key(boot_id), encode_process(uptime_s), px=ALIVE_KEPT_MS)
            pipeline.time()
            try:
                *_written, time = await pipeline.execute()
            except ResponseError as error:
                if "WRONGTYPE" in str(error):  # the next call recreates it
                    await self._lease.delete(APPROVALS)
                raise
        self._set_offset(time, began)

    async def write_gone(self, boot_id: str) -> None:
        """Record that this replica shuts down."""
        async with reaching_redis():
            await self._lease.zrem(APPROVALS, boot_id)

    async def _learn_time(self) -> None:
        began = self._clock.monotonic()
        async with reaching_redis():
            time = await self._lease.time()
        self._set_offset(time, began)

    def _set_offset(self, time: tuple[int, int], began: float) -> None:
        seconds, microseconds = time
        middle = (began + self._clock.monotonic()) / 2
        self._offset_ms = seconds * 1000 + microseconds / 1000 - middle * 1000

    async def info(self) -> dict[str, Any]:
        """Return the reply to INFO."""
        async with reaching_redis():
            found: dict[str, Any] = await self._client.info("everything")
        return found

    async def appendfsync(self) -> str | None:
        """Return the setting `appendfsync` of Redis; None if it cannot be read."""
        async with reaching_redis():
            try:
                found: dict[str, str] = await self._client.config_get("appendfsync")
            except ResponseError:  # no permission or unknown: managed services often lack CONFIG
                return None
        return found.get("appendfsync")

    async def load(self, device_ids: Sequence[str]) -> tuple[Position, list[VersionedRecord]]:
        """Read the newest change and the records of these devices, in one round trip."""
        head, values = await self._with_head([device_key(one) for one in device_ids])
        return head, [_held(value) for value in values]

    async def _with_head(self, keys: Sequence[str]) -> tuple[Position, list[bytes | None]]:
        """Read the newest change and these keys; repair an invalid head first."""
        async with reaching_redis():
            head, *values = await self._mget([HEAD, *keys])
        if not is_head(head):
            await self.repairs.repair(HEAD)
            async with reaching_redis():
                head, *values = await self._mget([HEAD, *keys])
        return decode_head(head), values

    async def load_surely(
        self, device_ids: Sequence[str]
    ) -> tuple[Position, list[VersionedRecord]]:
        """Do what `load` does, and distinguish absent records from keys of a wrong type.

        MGET returns nil for both, so absent records cost a further round trip.
        """
        head, held = await self.load(device_ids)
        absent = [one for one, read in zip(device_ids, held, strict=True) if read is NOT_HELD]
        other = await self._of_other_type(absent)
        if other:
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
        if not device_ids:
            return set()
        keys = [device_key(one) for one in device_ids]
        async with reaching_redis():
            if not await self._client.exists(*keys):
                return set()
            pipeline = self._client.pipeline(transaction=False)
            for key in keys:
                pipeline.get(key)
            found = await pipeline.execute(raise_on_error=False)
        return {
            one
            for one, value in zip(device_ids, found, strict=True)
            if isinstance(value, ResponseError) and "WRONGTYPE" in str(value)
        }

    async def load_guarded(
        self, device_ids: Sequence[str], limit_keys: Sequence[str]
    ) -> tuple[Position, list[VersionedRecord], dict[str, FailureCounts]]:
        """Do what `load` does, with these addresses' failure counts, still in one round trip."""
        head, values = await self._with_head(
            [
                *(device_key(device_id) for device_id in device_ids),
                *(guard_key(limit_key) for limit_key in limit_keys),
            ]
        )
        count = len(device_ids)
        guards = zip(limit_keys, values[count:], strict=True)
        return (
            head,
            [_held(value) for value in values[:count]],
            {limit_key: read_guard(value) for limit_key, value in guards},
        )

    async def answered(self, call_id: str) -> bytes | None:
        """Return the result of an earlier attempt of a call, if one was carried out.

        With Redis replicas, wait until one of them has the state that was read. This also applies
        if there is no such call or no call id: the caller's answer may rest on another's commit.
        """
        key = call_key(call_id)
        async with reaching_redis():
            if self.has_replicas:
                pipeline = self._client.pipeline(transaction=False)
                pipeline.get(key)
                (value,) = await self._execute_confirmed(pipeline)
            else:
                value = await self._client.get(key) if call_id else None
        return value.partition(b"\n")[2] if value else None

    async def note(self, request_id: str) -> RequestNote | None:
        """Read the note on a request id."""
        (note,) = await self.notes([request_id])
        return note

    async def notes(self, request_ids: Sequence[str]) -> list[RequestNote | None]:
        """Read the notes on these request ids, in one round trip."""
        if not request_ids:
            return []
        async with reaching_redis():
            keys = [request_key(one) for one in request_ids]
            found = await self._client.mget(keys)
            absent = [key for key, value in zip(keys, found, strict=True) if value is None]
            # MGET returns nil for a key of a wrong type, as if the request never existed.
            if absent and await self._client.exists(*absent):
                pipeline = self._client.pipeline(transaction=False)
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
                part = await self._client.zrange(
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
            found = await self._client.zrange(PAIRED, 0, -1)
        return [member.decode() for member in found]

    async def count_paired(self) -> int:
        """Return the number of paired devices."""
        async with reaching_redis():
            return int(await self._client.zcard(PAIRED))

    async def restore_mark(self) -> str:
        """Return the mark of the last restore; empty if there is none."""
        async with reaching_redis():
            try:
                value = await self._client.get(RESTORE)
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
            found = await self._client.xrange(
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
            found = await self._client.zrangebyscore(PENDING, "-inf", now_ms, start=0, num=limit)
        return [member.decode() for member in found]

    async def left_out(self, now_ms: int, limit: int) -> list[str]:
        """Return sources, with their hour, for which a summary of audit entries is due."""
        async with reaching_redis():
            found = await self._client.zrangebyscore(LEFT_OUT, "-inf", now_ms, start=0, num=limit)
        return [member.decode(errors="replace") for member in found]

    async def counted(self, key: str) -> str:
        """Return the value of a counter of audit entries; empty if there is none."""
        async with reaching_redis():
            value = await self._client.get(key)
        return value.decode(errors="replace") if value else ""

    async def oldest_from(self, limit_key: str, but: str) -> str | None:
        """Return the device with the oldest request from an address, except for `but`."""
        async with reaching_redis():
            found = await self._client.zrange(address_key(limit_key), 0, 1)
        return next((m.decode() for m in found if m.decode() != but), None)

    async def commit(self, plan: TransactionPlan) -> Committed:
        """Carry out a plan. With Redis replicas, wait until one of them has it.

        Damaged keys are repaired first. Raises UnreadableRecord for damage that a person has to
        repair.
        """
        key = b""
        for _ in range(REPAIRS_LIMIT):
            committed = await self._run_commit(plan)
            key = committed.answer
            if committed.outcome == "broken":
                await self.repairs.repair(
                    key.decode(), committed.change.tag, committed.previous_tag
                )
            elif committed.outcome == "unreadable":
                raise UnreadableRecord(key.decode())
            else:
                self.repairs.trouble = ""
                return committed
        message = f"{key.decode()} cannot be used, and a repair did not help"
        raise StoreUnavailable(message)

    async def _run_commit(self, plan: TransactionPlan) -> Committed:
        keys, arguments = plan.keys, plan.arguments()
        async with reaching_redis():
            if self.has_replicas:
                pipeline = self._client.pipeline(transaction=False)
                await self._commit(keys=keys, args=arguments, client=pipeline)
                (result,) = await self._execute_confirmed(pipeline)
            else:
                result = await self._commit(keys=keys, args=arguments)
        outcome, number, tag, answer, previous = result
        return Committed(
            outcome.decode(), Position(number, tag.decode()), answer, previous.decode()
        )

    async def beat(self, gateway: str, beat: BeatQuestion) -> BeatAnswer:
        """Write a gateway's presence and read the changes it has missed, atomically.

        If head and change log are inconsistent, a new history starts, which the answer reflects.
        """
        for _ in range(REPAIRS_LIMIT):
            raw = await self._run_beat(gateway, beat)
            if raw[0] == b"broken":
                await self.repairs.repair(raw[1].decode())
                continue
            head, now_ms, presence_at, resync, found, version = raw
            newest = decode_head(head)
            try:
                changes = decode_changes(found, BEAT_LIMIT_BYTES)
            except UnreadableLog:
                await self.repairs.repair(CHANGES, newest.tag, "unreadable")
                continue
            return BeatAnswer(
                beat_id=beat.beat_id,
                head=newest,
                now_ms=now_ms,
                presence_at=presence_at,
                resync=bool(resync),
                changes=changes,
                presence_version=version,
            )
        message = "head and change log are inconsistent, and a repair did not help"
        raise StoreUnavailable(message)

    async def _run_beat(self, gateway: str, beat: BeatQuestion) -> list[Any]:
        async with reaching_redis():
            found: list[Any] = await self._beat(
                keys=[
                    presence_key(gateway),
                    GATEWAYS,
                    HEAD,
                    CHANGES,
                    PAIRED,
                    PRESENCE_VERSION,
                    *(seen_key(one.device_id) for one in beat.seen),
                ],
                args=[
                    gateway,
                    beat.beat_id,
                    beat.builds_on,
                    beat.connections,
                    min(beat.lease_ms, PRESENCE_KEPT_MAX_MS),
                    beat.applied.number,
                    beat.applied.tag,
                    int(beat.booted),
                    BEAT_CHANGES_LIMIT,
                    *beat_arguments(beat),
                ],
            )
        return found

    async def _execute_confirmed(self, pipeline: Any) -> list[Any]:
        """Send these commands; return their replies once a Redis replica has the state they saw.

        WAIT covers only writes on its own connection. A retry of an earlier commit writes nothing,
        so CONFIRMED is always written.
        """
        pipeline.set(CONFIRMED, b"")
        pipeline.wait(1, WAIT_MS)
        *replies, _written, copies = await pipeline.execute()
        if copies < 1:
            message = "no Redis replica confirmed the commit"
            raise StoreUnavailable(message)
        found: list[Any] = replies
        return found

    async def _listed(self, index: str, *, newest_first: bool) -> Listed:
        async with reaching_redis():
            members = await self._client.zrange(index, 0, -1, desc=newest_first)
        return await self.records([member.decode(errors="replace") for member in members])


def _held(value: bytes | None) -> VersionedRecord:
    return NOT_HELD if value is None else _decoded(value)


@lru_cache(RECORDS_REMEMBERED)
def _decoded(value: bytes) -> VersionedRecord:
    """Decode a record; records are immutable, so equal bytes can share one object."""
    version = value[:VERSION_CHARACTERS]
    try:
        return VersionedRecord(version.decode(), decode_record(value[VERSION_CHARACTERS:]))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return VersionedRecord(version, None, unreadable=True)


NOT_HELD: Final = VersionedRecord("", None)
_OTHER_TYPE: Final = VersionedRecord(WRONG_TYPE, None, unreadable=True)
