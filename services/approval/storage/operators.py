"""Named operators in Redis: one value with all of them, so that none is left out of the list.

It is read for every call that a named operator makes, and nothing of it is cached: a revocation
takes effect at every replica with the commit that writes it.
"""

from __future__ import annotations

import contextlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from services.approval.domain.errors import StoreUnavailable, UnreadableRecord
from services.approval.domain.lockout import read_guard
from services.approval.domain.operators import Operators, read_operators
from services.approval.storage.keys import OPERATORS, guard_key, operator_used_key
from services.approval.storage.reads import values_of
from services.approval.storage.redis import reaching_redis
from services.approval.storage.sessions import session_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.asyncio import Redis

    from services.approval.domain.lockout import FailureCounts
    from services.approval.storage.reads import Read

USED_APART_MS: Final = 60_000
"""Min. time between two writes of when an operator was last active, by one replica."""
USED_KEPT_MS: Final = 400 * 86_400_000
"""How long the time of an operator's last activity is kept."""
_USED_LIMIT: Final = 1_000


class OperatorStore:
    """Reads named operators. Every method may raise StoreUnavailable."""

    def __init__(self, client: Redis, read: Read, now_ms: Callable[[], int]) -> None:
        self._client: Any = client  # its types allow bytes and str; all values here are bytes
        self._read = read
        self._now_ms = now_ms
        self._written: dict[str, int] = {}

    async def all(self) -> Operators:
        """Return all named operators; raises UnreadableRecord."""
        (value,) = await values_of(self._read, [OPERATORS])
        return _decoded(value)

    async def with_failures(
        self, limit_key: str, *, wanted: bool
    ) -> tuple[FailureCounts, Operators]:
        """Return an address's failure counts and, if `wanted`, the operators, in one round trip."""
        keys = [guard_key(limit_key), *([OPERATORS] if wanted else [])]
        guard, *value = await values_of(self._read, keys)
        return read_guard(guard), _decoded(value[0] if value else None)

    async def with_session(
        self, session_id: str, *, wanted: bool
    ) -> tuple[bytes | None, Operators]:
        """Return a session's value and, if `wanted`, the operators, in one round trip."""
        keys = [session_key(session_id), *([OPERATORS] if wanted else [])]
        session, *value = await values_of(self._read, keys)
        return session, _decoded(value[0] if value else None)

    async def note_use(self, operator_id: str) -> None:
        """Store that an operator is active, at most once per USED_APART_MS; may fail silently."""
        now_ms = self._now_ms()
        if now_ms - self._written.get(operator_id, 0) < USED_APART_MS:
            return
        if len(self._written) >= _USED_LIMIT:
            self._written.clear()
        self._written[operator_id] = now_ms
        with contextlib.suppress(StoreUnavailable):
            async with reaching_redis():
                await self._client.set(operator_used_key(operator_id), now_ms, px=USED_KEPT_MS)

    async def last_used(self, operator_ids: Sequence[str]) -> list[int]:
        """Return when these operators were last active, in ms since 1970; 0 if unknown."""
        values = await values_of(self._read, [operator_used_key(one) for one in operator_ids])
        return [int(value) if value and value.isdigit() else 0 for value in values]


@lru_cache(4)
def _decoded(value: bytes | None) -> Operators:
    try:
        return read_operators(value)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise UnreadableRecord(OPERATORS) from None
