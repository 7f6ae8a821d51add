"""Storage of wrong secrets: failure counts, known wrong values and the index of lock-outs.

All state is in Redis and read for each attempt, so lock-outs start and end at all replicas at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from services.approval.domain.errors import TooLate
from services.approval.domain.lockout import (
    FAILURES_LIMIT,
    LOCK_MS,
    REMEMBERED_LIMIT_VALUES,
    REMEMBERED_MS,
    WINDOW_MS,
    FailureCounts,
    KnownValues,
    Lockout,
    WrongValues,
    parse_member,
    read_guard,
)
from services.approval.storage.keys import LOCKOUTS, guard_key, wrong_values_key
from services.approval.storage.redis import load_script, reaching_redis

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from redis.asyncio import Redis

    from shared.clock import Clock

_SCRIPT: Final = load_script("lockout.lua")


class LockoutStore:
    """Counts wrong secrets and reads lock-outs. Every method may raise StoreUnavailable."""

    def __init__(self, client: Redis, clock: Clock) -> None:
        self._client: Any = client  # its types allow bytes and str; all values here are bytes
        self._clock = clock
        self.known: Final = KnownValues()
        self._script = client.register_script(_SCRIPT)

    def knows(self, limit_key: str, wrong: Mapping[str, Sequence[str]]) -> bool:
        """Return whether all of these values are known to be wrong, so none needs counting."""
        return self.known.hold(limit_key, wrong, self._clock.monotonic() * 1000)

    async def count(
        self,
        limit_key: str,
        wrong: Mapping[str, Sequence[str]],
        *,
        right_beside: bool = False,
        not_after_ms: int = 0,
    ) -> int:
        """Count wrong values (digests by class); return for how many ms the attempt is locked out.

        Remembered values are not counted. `right_beside`: the attempt also sent a correct secret,
        which must fit before the lock-out like another guess. After `not_after_ms` (Redis's clock;
        0: no deadline) nothing is counted and TooLate is raised.
        """
        began_ms = self._clock.monotonic() * 1000
        left = await self._run("fail", limit_key, wrong, right_beside, not_after_ms)
        if not left:
            self.known.add(limit_key, wrong, began_ms)
        return left

    async def clear(self, limit_key: str, classes: Iterable[str], *, not_after_ms: int = 0) -> None:
        """Clear the failures of these classes, except of locked ones; `not_after_ms` as in `count`.

        Known wrong values stay remembered.
        """
        await self._run("clear", limit_key, dict.fromkeys(classes, ()), False, not_after_ms)

    async def guarded(self, limit_key: str) -> tuple[FailureCounts, WrongValues]:
        """Return the failure counts of an address and the wrong values sent from it."""
        async with reaching_redis():
            value, wrong = await self._client.mget(
                [guard_key(limit_key), wrong_values_key(limit_key)]
            )
        return read_guard(value), WrongValues(wrong or b"")

    async def running(self, now_ms: int, limit: int) -> list[Lockout]:
        """Return at most `limit` active lock-outs; those that end last come first."""
        async with reaching_redis():
            members = await self._client.zrange(LOCKOUTS, 0, limit - 1, desc=True)
        named = [parse_member(member.decode(errors="replace")) for member in members]
        addresses = list(dict.fromkeys(address for _credential, address in named))
        if not addresses:
            return []
        async with reaching_redis():
            values = await self._client.mget([guard_key(address) for address in addresses])
        guards = {
            address: read_guard(value) for address, value in zip(addresses, values, strict=True)
        }
        found = (
            guards[address].lockout(credential, address, now_ms) for credential, address in named
        )
        return [one for one in found if one is not None]

    async def _run(
        self,
        what: str,
        limit_key: str,
        wrong: Mapping[str, Sequence[str]],
        right_beside: bool,  # noqa: FBT001 (called only by the two methods above)
        not_after_ms: int,
    ) -> int:
        attempts: list[str | int] = []
        for name, values in wrong.items():
            attempts += [name, len(values), *values]
        async with reaching_redis():
            left = await self._script(
                keys=[guard_key(limit_key), wrong_values_key(limit_key), LOCKOUTS],
                args=[
                    what,
                    WINDOW_MS,
                    FAILURES_LIMIT,
                    LOCK_MS,
                    REMEMBERED_MS,
                    REMEMBERED_LIMIT_VALUES,
                    not_after_ms,
                    limit_key,
                    int(right_beside),
                    *attempts,
                ],
            )
        if left < 0:
            raise TooLate
        return int(left)
