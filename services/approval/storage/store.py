"""The registry's store: one record a device in Redis, and one script that changes things."""

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
    PRESENCE_KEPT_MOST_MS,
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
"""How long a commit waits for a Redis replica to have it, where there are replicas."""

BEAT_CHANGES_LIMIT: Final = 256
"""How many changes one answer to a beat tells at most (R4)."""
BEAT_LIMIT_BYTES: Final = 1024 * 1024
"""How large these changes may be together: many answers fit a message, and one always does."""

RECORDS_REMEMBERED: Final = 2_048
"""How many records are kept decoded, by the bytes they were stored as."""

REPAIRS_LIMIT: Final = 3
"""How many keys one commit or beat repairs at most before it gives up."""


class VersionedRecord(msgspec.Struct, frozen=True):
    """A device's record as it was read, with its version; both empty where there is none.

    `unreadable`: there is one that cannot be decoded, so nothing is known of the device.
    """

    version: str | bytes
    record: Record | None
    unreadable: bool = False


@dataclass(frozen=True, slots=True)
class Listed:
    """The records that an index names, and the ids of those that cannot be read."""

    records: list[Record]
    unreadable: list[str]


@dataclass(frozen=True, slots=True)
class Committed:
    """What became of a plan: `done`, `seen`, `late`, `conflict` or `full`; and the newest change.

    `answer` is what an earlier try of the same call was told (`seen`).
    """

    outcome: str
    change: Position
    answer: bytes
    previous_tag: str


ReadKeys = Callable[[list[str]], Awaitable[list[bytes | None]]]


class Store:
    """Reads and changes what Redis keeps. Every method raises StoreUnavailable.

    `mget` reads many keys at once, if there is a quicker way than the client's. What leases live on
    (beats, and that this replica is alive) goes over the connections of `lease`, if it is given.
    """

    def __init__(
        self,
        client: Redis,
        clock: Clock,
        mget: ReadKeys | None = None,
        lease: Redis | None = None,
    ) -> None:
        self._client: Any = client  # its types cover bytes and text, ours are bytes
        self._lease: Any = lease or client
        self._mget = mget or cast("ReadKeys", client.mget)
        self._clock = clock
        self._commit = client.register_script(script("commit.lua"))
        self._beat = self._lease.register_script(script("beat.lua"))
        self._offset_ms: float | None = None
        self.has_replicas = False
        self.presence: Final = Presence(client)
        self.sessions: Final = SessionStore(client)
        self.lockouts: Final = LockoutStore(client, clock)
        self.refusals: Final = Refusals(client, lease)
        self.audit_log: Final = AuditLog(client)
        self.repairs: Final = Repairs(client, self.now_ms)

    def now_ms(self) -> int:
        """Return Redis's time, as last learned: one clock for all approval replicas."""
        if self._offset_ms is None:
            return self._clock.wall_ms()
        return int(self._clock.monotonic() * 1000 + self._offset_ms)

    async def write_alive(self, boot_id: str, *, uptime_s: int = 0) -> None:
        """Write that this replica is alive, and learn Redis's time on the way."""
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
                if "WRONGTYPE" in str(error):  # nothing of ours is in it: begun anew next time
                    await self._lease.delete(APPROVALS)
                raise
        self._learned(time, began)

    async def write_gone(self, boot_id: str) -> None:
        """Write that this replica leaves."""
        async with reaching_redis():
            await self._lease.zrem(APPROVALS, boot_id)

    async def _learn_time(self) -> None:
        began = self._clock.monotonic()
        async with reaching_redis():
            time = await self._lease.time()
        self._learned(time, began)

    def _learned(self, time: tuple[int, int], began: float) -> None:
        seconds, microseconds = time
        middle = (began + self._clock.monotonic()) / 2
        self._offset_ms = seconds * 1000 + microseconds / 1000 - middle * 1000

    async def info(self) -> dict[str, Any]:
        """Return Redis's own account of itself."""
        async with reaching_redis():
            found: dict[str, Any] = await self._client.info("everything")
        return found

    async def appendfsync(self) -> str | None:
        """Return how often Redis puts what was written on disk; None where it does not tell."""
        async with reaching_redis():
            try:
                found: dict[str, str] = await self._client.config_get("appendfsync")
            except ResponseError:  # not allowed, or not known: managed ones often have no CONFIG
                return None
        return found.get("appendfsync")

    async def load(self, device_ids: Sequence[str]) -> tuple[Position, list[VersionedRecord]]:
        """Read the newest change and the records of these devices, in one round trip."""
        head, values = await self._with_head([device_key(one) for one in device_ids])
        return head, [_held(value) for value in values]

    async def _with_head(self, keys: Sequence[str]) -> tuple[Position, list[bytes | None]]:
        """Read the newest change and these keys; a head that is none is repaired first."""
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
        """As `load`, and tell records that are not there from keys of another type.

        MGET reads both as nothing. One more round trip, where there is something to tell apart.
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
        """Say whether there is something where this device's record should be that is none."""
        _head, (held,) = await self.load_surely([device_id])
        return held.unreadable

    async def _of_other_type(self, device_ids: Sequence[str]) -> set[str]:
        """Return those under whose key something is that is no record; one made just now is one."""
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
        """As `load`, with the guards of these addresses, still in one round trip."""
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
        """Return what an earlier try of a call was told, if one was carried out.

        With Redis replicas, only once one of them has what this rests on: also where there is no
        such call, or none with an id (empty), for somebody else's may have been carried out.
        """
        key = call_key(call_id)
        async with reaching_redis():
            if self.has_replicas:
                pipeline = self._client.pipeline(transaction=False)
                pipeline.get(key)
                (value,) = await self._confirmed(pipeline)
            else:
                value = await self._client.get(key) if call_id else None
        return value.partition(b"\n")[2] if value else None

    async def note(self, request_id: str) -> RequestNote | None:
        """Read what is known of a request id."""
        (note,) = await self.notes([request_id])
        return note

    async def notes(self, request_ids: Sequence[str]) -> list[RequestNote | None]:
        """Read what is known of these request ids, in one round trip."""
        if not request_ids:
            return []
        async with reaching_redis():
            keys = [request_key(one) for one in request_ids]
            found = await self._client.mget(keys)
            absent = [key for key, value in zip(keys, found, strict=True) if value is None]
            # MGET reads a key of another type as nothing, which would mean that it never was.
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
        """Decode a note; one that cannot be read is made anew from the request it is about."""
        if not isinstance(value, Exception):
            try:
                return decode_note(value)
            except (msgspec.MsgspecError, ValueError):
                pass
        return await self._note_of_pending(request_id)

    async def _note_of_pending(self, request_id: str) -> RequestNote:
        """Make a note that cannot be read anew, from the request that it is about."""
        for record in (await self.pending()).records:
            pending = record.pending
            if pending is not None and pending.request_id == request_id:
                return RequestNote(record.device_id, PENDING_STATE, pending.created_at_ms)
        raise UnreadableRecord(request_key(request_id))

    async def paired(self) -> Listed:
        """Read all paired devices, the latest approved first."""
        return await self._listed(PAIRED, newest_first=True)

    async def paired_after(self, after: PageCursor | None, most: int) -> list[PageCursor]:
        """Return positions of paired devices after one of them, the latest approved first."""
        found: list[PageCursor] = []
        offset = 0
        while len(found) < most:
            async with reaching_redis():
                part = await self._client.zrange(
                    PAIRED,
                    "+inf" if after is None else after.at_ms,
                    "-inf",
                    desc=True,
                    byscore=True,
                    withscores=True,
                    offset=offset,
                    num=most,
                )
            offset += len(part)
            positions = [PageCursor(int(score), member.decode()) for member, score in part]
            found += [one for one in positions if after is None or one < after]
            if len(part) < most:
                break
        return found[:most]

    async def records(self, device_ids: Sequence[str]) -> Listed:
        """Read the records of these devices, without those that have none."""
        if not device_ids:
            return Listed([], [])
        _head, held = await self.load_surely(device_ids)
        return Listed(
            [one.record for one in held if one.record is not None],
            [device_id for device_id, one in zip(device_ids, held, strict=True) if one.unreadable],
        )

    async def paired_ids(self) -> list[str]:
        """Return the ids of all paired devices, the earliest approved first."""
        async with reaching_redis():
            found = await self._client.zrange(PAIRED, 0, -1)
        return [member.decode() for member in found]

    async def count_paired(self) -> int:
        """Return how many devices are paired."""
        async with reaching_redis():
            return int(await self._client.zcard(PAIRED))

    async def restore_mark(self) -> str:
        """Return what is kept of the last restore; empty where nothing is."""
        async with reaching_redis():
            try:
                value = await self._client.get(RESTORE)
            except ResponseError as error:
                if "WRONGTYPE" in str(error):
                    raise UnreadableRecord(RESTORE) from None
                raise
        return (value or b"").decode(errors="replace")

    async def changed_after(self, place: Position, most: int) -> tuple[Position, list[str]]:
        """Return whose records changed after a place, each once, and the place reached.

        Raises StoreUnavailable where the change log no longer holds the place.
        """
        async with reaching_redis():
            found = await self._client.xrange(
                CHANGES, min=f"{place.number}-0", max="+", count=most + 1
            )
        try:
            return changed_after(place, found)
        except UnreadableLog:
            message = f"{CHANGES} holds an entry that cannot be read"
            raise StoreUnavailable(message) from None

    async def pending(self) -> Listed:
        """Read all devices with a request, in no order that matters."""
        return await self._listed(PENDING, newest_first=False)

    async def expired(self, now_ms: int, most: int) -> list[str]:
        """Return device ids whose request is void by now."""
        async with reaching_redis():
            found = await self._client.zrangebyscore(PENDING, "-inf", now_ms, start=0, num=most)
        return [member.decode() for member in found]

    async def left_out(self, now_ms: int, most: int) -> list[str]:
        """Return sources with entries to summarise, each with its hour, that is over by now."""
        async with reaching_redis():
            found = await self._client.zrangebyscore(LEFT_OUT, "-inf", now_ms, start=0, num=most)
        return [member.decode(errors="replace") for member in found]

    async def counted(self, key: str) -> str:
        """Return what a counter of entries stands at; empty where there is none."""
        async with reaching_redis():
            value = await self._client.get(key)
        return value.decode(errors="replace") if value else ""

    async def oldest_from(self, limit_key: str, but: str) -> str | None:
        """Return the device with the oldest request from one address, `but` this one."""
        async with reaching_redis():
            found = await self._client.zrange(address_key(limit_key), 0, 1)
        return next((m.decode() for m in found if m.decode() != but), None)

    async def commit(self, plan: TransactionPlan) -> Committed:
        """Carry out a plan. With Redis replicas it is done only once one of them has it.

        Keys that it cannot work with are repaired first. Raises UnreadableRecord for those that
        only a person may put right.
        """
        key = b""
        for _ in range(REPAIRS_LIMIT):
            committed = await self._committed(plan)
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

    async def _committed(self, plan: TransactionPlan) -> Committed:
        keys, arguments = plan.keys, plan.arguments()
        async with reaching_redis():
            if self.has_replicas:
                pipeline = self._client.pipeline(transaction=False)
                await self._commit(keys=keys, args=arguments, client=pipeline)
                (result,) = await self._confirmed(pipeline)
            else:
                result = await self._commit(keys=keys, args=arguments)
        outcome, number, tag, answer, previous = result
        return Committed(
            outcome.decode(), Position(number, tag.decode()), answer, previous.decode()
        )

    async def beat(self, gateway: str, beat: BeatQuestion) -> BeatAnswer:
        """Write a gateway's presence and read what it has missed, in one step.

        Where head and change log disagree, a new history begins, and the answer tells of that.
        """
        for _ in range(REPAIRS_LIMIT):
            told = await self._beaten(gateway, beat)
            if told[0] == b"broken":
                await self.repairs.repair(told[1].decode())
                continue
            head, now_ms, presence_at, resync, found, version = told
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
        message = "head and change log disagree, and a repair did not help"
        raise StoreUnavailable(message)

    async def _beaten(self, gateway: str, beat: BeatQuestion) -> list[Any]:
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
                    min(beat.lease_ms, PRESENCE_KEPT_MOST_MS),
                    beat.applied.number,
                    beat.applied.tag,
                    int(beat.booted),
                    BEAT_CHANGES_LIMIT,
                    *beat_arguments(beat),
                ],
            )
        return found

    async def _confirmed(self, pipeline: Any) -> list[Any]:
        """Send these commands; return their replies once a Redis replica has what they saw.

        WAIT waits for what was written on its own connection. A commit that was done before writes
        nothing, so something always is.
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
    """Decode a record; records are values, so the same bytes may be the same object."""
    version = value[:VERSION_CHARACTERS]
    try:
        return VersionedRecord(version.decode(), decode_record(value[VERSION_CHARACTERS:]))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return VersionedRecord(version, None, unreadable=True)


NOT_HELD: Final = VersionedRecord("", None)
_OTHER_TYPE: Final = VersionedRecord(WRONG_TYPE, None, unreadable=True)
