"""Reads the audit log, which consists of a stream of all entries and a set of decisions.

Each commit appends its entries to the stream, which keeps the newest. Decisions of people are also
added to a sorted set, so that other entries cannot displace them. Readers merge both by number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import NoPermissionError

from services.approval.storage.changes.changelog import (
    Followed,
    decision_of,
    decode_head,
    entry_of,
    followed,
)
from services.approval.storage.keys import AUDIT, DECISIONS, HEAD, LEFT_OUT
from services.approval.storage.redis import reaching_redis

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis.asyncio import Redis

    from services.approval.domain.records import AuditEntry
    from services.approval.storage.changes.changelog import Audited
    from shared.rpc.messages import Position

PAGE_ENTRIES: Final = 1_000
"""Entries read per command if the Redis user has no permission for XREVRANGE."""


class AuditLog:
    """Reads the audit log. Every method raises StoreUnavailable."""

    def __init__(self, client: Redis) -> None:
        self._client: Any = client  # its types allow bytes and str; all values here are bytes

    async def read(self, after: int, limit: int) -> list[AuditEntry]:
        """Return the first entries with numbers above `after`, oldest first."""
        async with reaching_redis():
            found = await self._client.xrange(AUDIT, min=f"({after}-0", max="+", count=limit)
            decisions = await self._decisions_after(after, limit)
        merged = _merged(_audited(found), decisions)
        return [one.entry for one in merged[:limit]]

    async def newest(self, limit: int) -> list[AuditEntry]:
        """Return the newest entries, oldest first."""
        async with reaching_redis():
            found = await self._from_end(limit)
            members = await self._client.zrange(DECISIONS, 0, limit - 1, desc=True)
        merged = _merged(_audited(found), map(decision_of, members))
        return [one.entry for one in merged[-limit:]]

    async def follow(self, place: Position, limit: int) -> Followed:
        """Return at most `limit` entries after a position, and the position reached.

        A position with a tag is distinguished from one with the same number in a lost history. A
        position without a tag is matched by its number alone.
        """
        async with reaching_redis():
            head = decode_head(await self._client.get(HEAD))
            if head == place:
                return Followed([], head)
            oldest = await self._client.xrange(AUDIT, min="-", max="+", count=1)
            found = await self._client.xrange(
                AUDIT, min=f"{place.number}-0", max="+", count=limit + 1
            )
            decisions = await self._decisions_after(place.number, limit)
        first = _audited(oldest)
        return followed(
            place,
            head,
            _merged(_audited(found), decisions),
            oldest=first[0].change.number if first else None,
            limit=limit,
        )

    async def _decisions_after(self, number: int, limit: int) -> list[Audited]:
        members = await self._client.zrangebyscore(
            DECISIONS, f"({number}", "+inf", start=0, num=limit
        )
        return [decision_of(member) for member in members]

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

    async def _from_end(self, limit: int) -> list[Any]:
        """Read the newest entries; without permission for XREVRANGE, scan the whole stream."""
        try:
            found: list[Any] = await self._client.xrevrange(AUDIT, max="+", min="-", count=limit)
        except NoPermissionError:  # a Redis user with the rights that earlier releases needed
            found, after = [], "-"
            while page := await self._client.xrange(AUDIT, min=after, max="+", count=PAGE_ENTRIES):
                found = [*found, *page][-limit:]
                after = f"({page[-1][0].decode()}"
        return found


def _audited(found: Iterable[Any]) -> list[Audited]:
    return [entry_of(entry_id, fields) for entry_id, fields in found]


def _merged(stream: Iterable[Audited], decisions: Iterable[Audited]) -> list[Audited]:
    """Merge both by number, without duplicates."""
    by_number = {one.change.number: one for one in (*decisions, *stream)}
    return [by_number[number] for number in sorted(by_number)]
