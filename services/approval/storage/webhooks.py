"""Queues of notifications in Redis, and the lease on delivering them.

Notifications are not written by the commits they are about, so that a commit does the same work
with and without targets. The replica that holds the lease reads the change log from where the last
one has stopped: position and queues are written together, so that each change is queued once. All
its writes name the lease, whose number rises with each holder: one that was paused and has lost the
lease can change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from services.approval.domain.lockout import LOCK_MS, parse_member
from services.approval.storage.changes.changelog import (
    Audited,
    InvalidHead,
    UnreadableLog,
    decode_change,
    decode_head,
)
from services.approval.storage.changes.changelog import entry_of as decode_entry
from services.approval.storage.keys import (
    AUDIT,
    CHANGES,
    HEAD,
    LOCKOUTS,
    WEBHOOK_LEASE,
    WEBHOOK_STATE,
    webhook_queue_key,
    webhook_target_key,
)
from services.approval.storage.redis import load_script, reaching_redis
from shared.rpc.messages import Changed, Position

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from redis.asyncio import Redis

QUEUE_LIMIT: Final = 1_000
"""Max. notifications that wait for one target."""
LEASE_MS: Final = 10_000
"""After this time without renewal, another replica delivers."""
POLLED_CHANGES: Final = 500
"""Max. changes read at once."""
KEPT_MS: Final = 7 * 86_400_000
"""How long queues are kept after their last use, as of a target that is no longer configured."""
STATE_KEPT_MS: Final = 3 * 86_400_000
"""How long the position is kept while no replica has targets; then they start with what is new."""
DROPPED_FIRST: Final = "W"
KEPT: Final = "K"
_RELEASE: Final = """
if redis.pcall('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""
_FIELDS: Final = (
    "head",
    "attempts",
    "retry_at_ms",
    "failing_since_ms",
    "delivered",
    "delivered_id",
    "delivered_at_ms",
    "dropped",
    "given_up",
    "missed",
    "error",
    "error_at_ms",
)


@dataclass(frozen=True, slots=True)
class StartedLockout:
    """A lock-out that was not queued yet."""

    credential: str
    address: str
    until_ms: int


@dataclass(frozen=True, slots=True)
class QueueState:
    """Length of a queue, and its first notification (empty: none)."""

    length: int
    first: bytes


@dataclass(frozen=True, slots=True)
class Poll:
    """What one poll found. `lease` is empty if another replica holds it; then only `at` is read."""

    lease: str
    now_ms: int = 0
    head: Position | None = None
    """The newest change; None if the head cannot be read."""
    at: Position = Position()  # noqa: RUF009 (immutable)
    lockouts_ms: int = 0
    changes: list[Changed] = field(default_factory=list)
    """Changes from `at` on, with the change at `at` itself if it is still in the log."""
    unreadable: bool = False
    """The change log holds an entry that cannot be read."""
    reached: Position = Position()  # noqa: RUF009 (immutable)
    entries: dict[int, Audited] = field(default_factory=dict)
    """Entries of the audit log, by change number."""
    lockouts: list[StartedLockout] = field(default_factory=list)
    queues: list[QueueState] = field(default_factory=list)
    is_new: bool = False
    """No position was stored: reading starts with the newest change."""


class TargetRecord(msgspec.Struct, frozen=True):
    """What is stored about a target, beside its queue."""

    head: str = ""
    """Id of the notification that `attempts` counts for."""
    attempts: int = 0
    retry_at_ms: int = 0
    failing_since_ms: int = 0
    delivered: int = 0
    delivered_id: str = ""
    delivered_at_ms: int = 0
    dropped: int = 0
    given_up: int = 0
    missed: int = 0
    """Notifications dropped or given up that the target has not been told of."""
    error: str = ""
    error_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """The state of one target: its queue's length and first notification, and its record."""

    length: int
    first: bytes
    record: TargetRecord


class WebhookStore:
    """Reads and writes queues and lease. Every method may raise StoreUnavailable."""

    def __init__(self, client: Redis, process: str) -> None:
        self._client: Any = client  # its types allow bytes and str; all values here are bytes
        self._process = process
        self._poll = client.register_script(load_script("webhook_poll.lua"))
        self._queue = client.register_script(load_script("webhook_queue.lua"))
        self._release = client.register_script(_RELEASE)
        self._settle = client.register_script(load_script("webhook_settle.lua"))

    async def poll(self, targets: Sequence[str], lease_ms: int = LEASE_MS) -> Poll:
        """Take or renew the lease, and read what was not queued yet."""
        queues = [webhook_queue_key(one) for one in targets]
        async with reaching_redis():
            found = await self._poll(
                keys=[WEBHOOK_LEASE, WEBHOOK_STATE, HEAD, CHANGES, AUDIT, LOCKOUTS, *queues],
                args=[self._process, lease_ms, POLLED_CHANGES, STATE_KEPT_MS, LOCK_MS],
            )
        if not found[0]:
            return Poll("", at=Position(int(found[2])))
        return _poll_of(found)

    async def enqueue(
        self,
        poll: Poll,
        targets: Sequence[str],
        members: Sequence[bytes],
        *,
        reached: Position,
        lockouts_ms: int,
    ) -> tuple[str, list[int]]:
        """Queue what a poll found, and record how far that reaches.

        Return the outcome (`done`, `fenced` or `stale`) and how many were dropped, by target.
        """
        return await self._enqueue(
            poll.lease,
            targets,
            members,
            (poll.at.number, poll.lockouts_ms, reached.number, reached.tag, lockouts_ms),
        )

    async def append(self, targets: Sequence[str], member: bytes) -> list[int]:
        """Queue a notification that is not read from the logs; at any replica."""
        _outcome, dropped = await self._enqueue("", targets, [member], ("", "", "", "", ""))
        return dropped

    async def _enqueue(
        self,
        lease: str,
        targets: Sequence[str],
        members: Sequence[bytes],
        positions: tuple[int | str, ...],
    ) -> tuple[str, list[int]]:
        keys = [key(one) for one in targets for key in (webhook_queue_key, webhook_target_key)]
        async with reaching_redis():
            outcome, *dropped = await self._queue(
                keys=[WEBHOOK_LEASE, WEBHOOK_STATE, *keys],
                args=[lease, *positions, QUEUE_LIMIT, KEPT_MS, *members],
            )
        return outcome.decode(), [int(one) for one in dropped]

    async def waiting(self, target: str) -> Waiting:
        """Return the state of a target."""
        async with reaching_redis(), self._client.pipeline(transaction=False) as pipeline:
            pipeline.zcard(webhook_queue_key(target))
            pipeline.zrange(webhook_queue_key(target), 0, 0)
            pipeline.hmget(webhook_target_key(target), _FIELDS)
            length, first, values = await pipeline.execute()
        return Waiting(length, first[0] if first else b"", _record_of(values))

    async def settle(
        self,
        lease: str,
        target: str,
        *,
        remove: bytes = b"",
        fields: Mapping[str, str | int],
        add: Mapping[str, int],
        append: bytes = b"",
    ) -> bool:
        """Record the outcome of an attempt; return False if the lease was lost."""
        keys = [WEBHOOK_LEASE, WEBHOOK_STATE, webhook_queue_key(target), webhook_target_key(target)]
        texts = {name: str(value) for name, value in fields.items()}
        counts = msgspec.json.encode(dict(add))
        async with reaching_redis():
            outcome = await self._settle(
                keys=keys,
                args=[lease, remove, KEPT_MS, msgspec.json.encode(texts), counts, append],
            )
        return bool(outcome == b"done")

    async def release(self, lease: str) -> None:
        """Give up the lease, so that another replica can take it at once."""
        async with reaching_redis():
            await self._release(keys=[WEBHOOK_LEASE], args=[lease])


def _poll_of(found: Sequence[Any]) -> Poll:
    _one, lease, now_ms, number, tag, lockouts_ms, changes, entries, locked, queues, new, head = (
        found
    )
    at = Position(number, tag.decode(errors="replace"))
    decoded, reached, unreadable = _changes_of(changes, at)
    return Poll(
        lease=lease.decode(),
        now_ms=now_ms,
        head=_head_of(head),
        at=at,
        lockouts_ms=lockouts_ms,
        changes=decoded,
        unreadable=unreadable,
        reached=reached,
        entries=_entries_of(entries),
        lockouts=_lockouts_of(locked),
        queues=[QueueState(length, first) for length, first in queues],
        is_new=bool(new),
    )


def _head_of(value: bytes) -> Position | None:
    try:
        return decode_head(value or None)
    except InvalidHead:
        return None


def _changes_of(found: Iterable[Any], at: Position) -> tuple[list[Changed], Position, bool]:
    """Decode changes; return them, the position of the last one, and whether one was unreadable."""
    changes: list[Changed] = []
    reached, unreadable = at, False
    for entry_id, fields in found:
        try:
            changes.append(decode_change(entry_id, fields))
            reached = changes[-1].change
        except (UnreadableLog, ValueError):
            unreadable = True
            reached = Position(int(entry_id.split(b"-")[0]), "")
    return changes, reached, unreadable


def _entries_of(found: Iterable[Any]) -> dict[int, Audited]:
    pairs = (
        (entry_id, dict(zip(fields[::2], fields[1::2], strict=False))) for entry_id, fields in found
    )
    audited = (decode_entry(entry_id, fields) for entry_id, fields in pairs)
    return {one.change.number: one for one in audited}


def _lockouts_of(found: Sequence[bytes]) -> list[StartedLockout]:
    lockouts = []
    for member, until in zip(found[::2], found[1::2], strict=True):
        credential, address = parse_member(member.decode(errors="replace"))
        lockouts.append(StartedLockout(credential, address, int(float(until))))
    return lockouts


def _record_of(values: Sequence[bytes | None]) -> TargetRecord:
    texts = {
        name: value.decode(errors="replace")
        for name, value in zip(_FIELDS, values, strict=True)
        if value is not None
    }
    try:
        return msgspec.convert(texts, TargetRecord, strict=False)
    except msgspec.ValidationError:
        return TargetRecord()
