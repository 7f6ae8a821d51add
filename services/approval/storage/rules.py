"""Approval rules in Redis: one value with all of them, and a set of approvals for each."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
from redis.exceptions import ResponseError

from services.approval.domain.errors import UnreadableRecord
from services.approval.domain.rules import Rules, read_rules
from services.approval.storage.keys import RULES, rule_uses_key
from services.approval.storage.reads import values_of
from services.approval.storage.redis import reaching_redis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from services.approval.storage.reads import Read


class RuleStore:
    """Reads rules. Every method may raise StoreUnavailable."""

    def __init__(self, client: Redis, read: Read) -> None:
        self._client: Any = client  # its types allow bytes and str; all values here are bytes
        self._read = read

    async def all(self) -> Rules:
        """Return all rules; raises UnreadableRecord."""
        (value,) = await values_of(self._read, [RULES])
        return _decoded(value)

    async def uses(self, rule_ids: Sequence[str]) -> list[int]:
        """Return how many requests each of these rules has approved."""
        if not rule_ids:
            return []
        async with reaching_redis():
            pipeline = self._client.pipeline(transaction=False)
            for rule_id in rule_ids:
                pipeline.zcard(rule_uses_key(rule_id))
            found = await pipeline.execute(raise_on_error=False)
        for rule_id, count in zip(rule_ids, found, strict=True):
            if isinstance(count, ResponseError):
                raise UnreadableRecord(rule_uses_key(rule_id))
        return [int(count) for count in found]


@lru_cache(4)
def _decoded(value: bytes | None) -> Rules:
    try:
        return read_rules(value)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise UnreadableRecord(RULES) from None
