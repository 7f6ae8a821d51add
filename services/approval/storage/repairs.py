"""Repairs of what Redis lost or somebody overwrote: history, indexes, and keys that are not ours.

A key of ours that holds another type holds nothing of ours any more, so it is dropped. Where head
and logs disagree, a new history begins: every gateway starts over and judges its connections anew.
Records of devices are never dropped here: only a person removes one that cannot be read.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog
from redis.exceptions import NoPermissionError

from services.approval import log_events
from services.approval.domain.audit import AuditEntry
from services.approval.domain.errors import StoreUnavailable
from services.approval.storage.keys import (
    AUDIT,
    CHANGES,
    COMMIT_KEYS,
    DECISIONS,
    DEVICE_KEYS,
    HEAD,
    HISTORY_LOST,
    LEFT_OUT,
    PAIRED,
    PAIRED_COUNT,
    PENDING,
    REINDEX,
)
from services.approval.storage.reaching import reaching_redis
from services.approval.storage.transaction import AUDIT_KEPT
from shared.rpc.messages import Changed, Position

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from redis.asyncio import Redis

HISTORIES_APART: Final = 1_000_000
"""A history that begins anew goes on above the next multiple of this."""
LOST_SHOWN_MS: Final = 86_400_000
"""For how long readiness warns that history was lost."""
SCAN_KEYS: Final = 1_000
"""How many keys one step of a scan looks at."""
HISTORY_BEGUN: Final = "history-lost"
"""The action in the audit log, and the kind of the change, with which a new history begins."""

_LOGS: Final = (HEAD, CHANGES, AUDIT)
_encode: Final = msgspec.msgpack.Encoder().encode
_encode_json: Final = msgspec.json.Encoder().encode


def script(name: str) -> str:
    """Return the text of a script, with what all of them share above it."""
    ours = files("services.approval.storage")
    return ours.joinpath("history.lua").read_text() + ours.joinpath(name).read_text()


@dataclass(frozen=True, slots=True)
class State:
    """What a look at the keys found: a repair is due, or an operator has to be told."""

    broken: tuple[str, ...] = ()
    """Keys to be repaired."""
    tag: str = ""
    """The tag at the head, where it can be read."""
    incomplete_index: bool = False
    lost: str = ""
    """When history was lost, and the key that disagreed: `seconds:key`. Empty: not lately."""


class Repairs:
    """Looks at the keys and repairs them. Every method may raise StoreUnavailable."""

    def __init__(self, client: Redis, now_ms: Callable[[], int]) -> None:
        self._client: Any = client  # its types cover bytes and text, ours are bytes
        self._now_ms = now_ms
        self._repair = client.register_script(script("repair.lua"))
        self._check = client.register_script(script("check.lua"))
        self._log = structlog.get_logger("approval")
        self.on_repair: Callable[[str], None] = lambda _what: None
        """Told `history`, `key` or `index` for each repair."""
        self.trouble = ""
        """Why nothing can be changed until an operator acts, and what to do. Else empty."""
        self.advice = ""
        """What an operator should put right, though all devices are served. Else empty."""

    async def look(self) -> State:
        """Look at the keys that everything rests on."""
        async with reaching_redis():
            found = await self._check(
                keys=[*COMMIT_KEYS, HISTORY_LOST, PENDING, LEFT_OUT], args=["", ""]
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
        """Repair a key that a script could not work with; `tag` is the one it found at the head.

        `why`: `unreadable` for a change log with entries that are none, `ahead` for an audit log
        that takes no entry of the next number. Returns when it is worth trying again.
        """
        entry_tag = secrets.token_hex(8)
        now_ms = self._now_ms()
        change = Changed(Position(), "", "", HISTORY_BEGUN, now_ms)
        entry = AuditEntry(HISTORY_BEGUN, "", "approval", now_ms, label=f"{key} disagreed")
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
                f"{key} takes no more entries: keep a copy of it if you need one, then delete it "
                f"in Redis (DEL {key})"
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
        """Yield the ids of all devices that have a record, some at a time, in no order."""
        cursor = 0
        while True:
            async with reaching_redis():
                try:
                    cursor, keys = await self._client.scan(
                        cursor, match=f"{DEVICE_KEYS}*", count=SCAN_KEYS
                    )
                except NoPermissionError:
                    self.advice = (
                        f"{PAIRED} is incomplete, and the Redis user may not SCAN to make it anew: "
                        "give it the rights in deploy/users.acl"
                    )
                    raise
            yield [key.decode().removeprefix(DEVICE_KEYS) for key in keys]
            if not int(cursor):
                return

    async def begin_index(self) -> str:
        """Note that the index of paired devices is being made anew; returns by whom."""
        token = secrets.token_hex(8)
        async with reaching_redis():
            await self._check(keys=[*COMMIT_KEYS, HISTORY_LOST], args=["begin", token])
        return token

    async def indexed(self, token: str) -> None:
        """Note that the index is complete again, unless it was lost once more meanwhile."""
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
