"""Repairs of data that Redis lost or others overwrote: history, indexes and keys of a wrong type.

A key of a wrong type is deleted. If head and logs are inconsistent, a new history starts: every
gateway resyncs and re-evaluates its connections. Device records are never deleted here; a person
has to remove an unreadable one.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog
from redis.exceptions import NoPermissionError

from services.approval import log_events
from services.approval.domain.errors import StoreUnavailable
from services.approval.domain.records import AuditEntry
from services.approval.storage.changes.transaction import AUDIT_KEPT
from services.approval.storage.keys import (
    AUDIT,
    CHANGES,
    COMMIT_KEYS,
    DECISIONS,
    DEVICE_KEYS,
    HEAD,
    HISTORY_LOST,
    HOLDERS,
    LEFT_OUT,
    PAIRED,
    PAIRED_COUNT,
    PENDING,
    REINDEX,
)
from services.approval.storage.redis import load_script, reaching_redis
from shared.rpc.messages import Changed, Position

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from redis.asyncio import Redis

HISTORIES_APART: Final = 1_000_000
"""A new history is numbered from above the next multiple of this."""
LOST_SHOWN_MS: Final = 86_400_000
"""How long readiness warns that history was lost."""
REPAIRS_LIMIT: Final = 3
"""Max. keys that one commit or heartbeat repairs before it fails."""
SCAN_KEYS: Final = 1_000
"""Keys examined per step of a scan."""
HISTORY_BEGUN: Final = "history-lost"
"""Audit action and kind of the change with which a new history starts."""

_LOGS: Final = (HEAD, CHANGES, AUDIT)
_encode: Final = msgspec.msgpack.Encoder().encode
_encode_json: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class State:
    """Result of a check: repairs that are due, and warnings for operators."""

    broken: tuple[str, ...] = ()
    """Keys that need repair."""
    tag: str = ""
    """Tag of the head, if it can be read."""
    incomplete_index: bool = False
    lost: str = ""
    """When history was lost, and the inconsistent key: `seconds:key`. Empty if not recently."""


class Repairs:
    """Checks and repairs keys. Every method may raise StoreUnavailable."""

    def __init__(self, client: Redis, now_ms: Callable[[], int]) -> None:
        self._client: Any = client  # its types allow bytes and str; all values here are bytes
        self._now_ms = now_ms
        self._repair = client.register_script(load_script("repair.lua", with_history=True))
        self._check = client.register_script(load_script("check.lua", with_history=True))
        self._log = structlog.get_logger("approval")
        self.on_repair: Callable[[str], None] = lambda _what: None
        """Called with `history`, `key` or `index` for each repair."""
        self.trouble = ""
        """Why no changes are possible until an operator acts, and the remedy. Empty if none."""
        self.advice = ""
        """What an operator should fix although all devices are served. Empty if nothing."""

    async def look(self) -> State:
        """Check the keys of history and the indexes."""
        async with reaching_redis():
            found = await self._check(
                keys=[*COMMIT_KEYS, HISTORY_LOST, PENDING, HOLDERS, LEFT_OUT], args=["", ""]
            )
        head, tag, audit, lost, incomplete, *others = found
        broken = [head.decode()] if head else [AUDIT] if audit else []
        return State(
            broken=(*broken, *(key.decode() for key in others)),
            tag=tag.decode(),
            incomplete_index=bool(incomplete),
            lost=lost.decode(errors="replace"),
        )

    async def repair(self, key: str, tag: str = "", why: str = "") -> None:
        """Repair a key that a script found damaged; `tag` is the tag it found at the head.

        `why`: `unreadable` for a change log with invalid entries, `ahead` for an audit log that
        rejects the next number. When this returns, the operation can be retried.
        """
        entry_tag = secrets.token_hex(8)
        now_ms = self._now_ms()
        change = Changed(Position(), "", "", HISTORY_BEGUN, now_ms)
        entry = AuditEntry(HISTORY_BEGUN, "", "approval", now_ms, label=f"{key} was inconsistent")
        async with reaching_redis():
            done, number = await self._repair(
                keys=[HEAD, CHANGES, AUDIT, DECISIONS, HISTORY_LOST, REINDEX, key],
                args=[
                    why or _kind(key),
                    tag,
                    HISTORIES_APART,
                    entry_tag,
                    _encode(change),
                    _encode_json(entry),
                    AUDIT_KEPT,
                    LOST_SHOWN_MS,
                    key,
                ],
            )
        if done == b"stuck":
            self.trouble = (
                f"{key} accepts no more entries: back it up if you need it, then delete it in "
                f"Redis (DEL {key})"
            )
            raise StoreUnavailable(self.trouble)
        if done == b"begun":
            self._log.error(log_events.HISTORY_BEGUN.name, key=key, change=number)
            self.on_repair("history")
        elif done == b"dropped":
            self._log.error(log_events.KEY_DROPPED.name, key=key)
            self.on_repair("key")
        self.trouble = ""

    async def records(self) -> AsyncIterator[list[str]]:
        """Yield the ids of all devices with a record, in batches, in no particular order."""
        cursor = 0
        while True:
            async with reaching_redis():
                try:
                    cursor, keys = await self._client.scan(
                        cursor, match=f"{DEVICE_KEYS}*", count=SCAN_KEYS
                    )
                except NoPermissionError:
                    self.advice = (
                        f"{PAIRED} is incomplete, and the Redis user may not SCAN to rebuild it: "
                        "grant it the rights in deploy/users.acl"
                    )
                    raise
            yield [key.decode().removeprefix(DEVICE_KEYS) for key in keys]
            if not int(cursor):
                return

    async def begin_index(self) -> str:
        """Mark the index of paired devices as being rebuilt; return the rebuild's token."""
        token = secrets.token_hex(8)
        async with reaching_redis():
            await self._check(keys=[*COMMIT_KEYS, HISTORY_LOST], args=["begin", token])
        return token

    async def indexed(self, token: str) -> None:
        """Mark the index as complete, unless it was lost again meanwhile."""
        async with reaching_redis():
            found = await self._check(keys=[*COMMIT_KEYS, HISTORY_LOST], args=["indexed", token])
        if found[4]:
            return
        self._log.warning(log_events.INDEX_REBUILT.name, key=PAIRED)
        self.on_repair("index")
        self.advice = ""


def _kind(key: str) -> str:
    if key in _LOGS:
        return "history"
    return "number" if key == PAIRED_COUNT or key.startswith("latchkey:audited:") else "zset"
