"""Closes connections to a Redis that is not the master, so that new ones can reach the master.

A failover does not always close them: a connection that stays open to the old master would be
refused every write.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import MasterDownError, ReadOnlyError, ResponseError

from shared.redis.lost import is_lost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import ConnectionPool
    from structlog.typing import FilteringBoundLogger

    from shared.clock import Clock

RENEW_SECONDS: Final = 5.0
"""Minimum interval between renewals: if no master is reachable, new connections do not help."""


def says_no_master(error: Exception) -> bool:
    """Return whether Redis reports that it is a read-only replica; scripts wrap that error."""
    return isinstance(error, ReadOnlyError | MasterDownError) or (
        isinstance(error, ResponseError) and "READONLY" in str(error)
    )


class FailoverReset:
    """Closes all connections of a process together: at a failover, or if a replica is reached."""

    def __init__(self, clock: Clock, log: FilteringBoundLogger, event: str) -> None:
        """Register no connections yet; `event` is logged each time."""
        self._clock = clock
        self._log = log
        self._event = event
        self._due_at = float("-inf")
        self._held: list[Callable[[], Awaitable[None]]] = []
        self._pools: list[ConnectionPool] = []

    def hold(self, give_up: Callable[[], Awaitable[None]]) -> None:
        """Register a function that closes some connections."""
        self._held.append(give_up)

    def hold_pool(self, pool: ConnectionPool) -> None:
        """Register a pool."""
        self._pools.append(pool)

    async def report(self, error: Exception) -> None:
        """Handle an error reply of Redis. Commands in progress may end, each with its own error."""
        now = self._clock.monotonic()
        if not says_no_master(error) or now < self._due_at:
            return
        self._due_at = now + RENEW_SECONDS
        self._log.warning(self._event, error=str(error))
        for pool in self._pools:
            await pool.update_active_connections_for_reconnect()  # type: ignore[no-untyped-call]
        await self._give_up()

    async def close_all(self) -> None:
        """Close every connection at once, with whatever it is waiting for."""
        for pool in self._pools:
            for connection in pool._get_in_use_connections():  # noqa: SLF001  redis-py waits for TLS
                writer = connection._writer  # noqa: SLF001
                if writer is not None:
                    writer.transport.abort()
        await self._give_up()

    async def _give_up(self) -> None:
        results = await asyncio.gather(
            *(give_up() for give_up in self._held),
            *(pool.disconnect(inuse_connections=False) for pool in self._pools),
            return_exceptions=True,
        )
        for failed in results:
            if isinstance(failed, BaseException) and not is_lost(failed):
                raise failed


class NoRetry(Retry):
    """Executes each command once and reports refused ones."""

    def __init__(self, renewal: FailoverReset | None = None) -> None:
        """Report errors to `renewal`, if there is one."""
        super().__init__(NoBackoff(), 0)
        self._renewal = renewal

    def __deepcopy__(self, _memo: dict[int, Any]) -> NoRetry:
        """Return the same object for all connections of a pool, which copy their arguments."""
        return self

    async def call_with_retry(self, *args: Any, **options: Any) -> Any:
        """Execute once; raises redis-py's ConnectionError for the errors of a closed transport."""
        try:
            return await super().call_with_retry(*args, **options)
        except ResponseError as error:
            if self._renewal is not None:
                await self._renewal.report(error)
            raise
        except RuntimeError as error:
            if is_lost(error):
                raise LostError(str(error)) from error
            raise
