"""Giving up connections to a Redis that says it is no master: new ones may lead to the master.

A failover need not cut them: who stays at the old master is refused every write for ever.
"""

from __future__ import annotations

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
"""Connections are given up at most so often: where no master is reached, new ones are no better."""


def says_no_master(error: Exception) -> bool:
    """Whether Redis says that it is a replica and takes no writes; scripts wrap the words."""
    return isinstance(error, ReadOnlyError | MasterDownError) or (
        isinstance(error, ResponseError) and "READONLY" in str(error)
    )


class FailoverReset:
    """All connections of a process, given up together once a replica refuses one of them."""

    def __init__(self, clock: Clock, log: FilteringBoundLogger, event: str) -> None:
        """Hold nothing yet; `event` is what is logged each time."""
        self._clock = clock
        self._log = log
        self._event = event
        self._due_at = float("-inf")
        self._held: list[Callable[[], Awaitable[None]]] = []

    def hold(self, give_up: Callable[[], Awaitable[None]]) -> None:
        """Have some connections given up this way, too."""
        self._held.append(give_up)

    def hold_pool(self, pool: ConnectionPool) -> None:
        """Have the connections of a pool given up: those in use once they are back in it."""

        async def give_up() -> None:
            await pool.update_active_connections_for_reconnect()  # type: ignore[no-untyped-call]
            await pool.disconnect(inuse_connections=False)

        self.hold(give_up)

    async def report(self, error: Exception) -> None:
        """Take notice of what Redis answered."""
        now = self._clock.monotonic()
        if not says_no_master(error) or now < self._due_at:
            return
        self._due_at = now + RENEW_SECONDS
        self._log.warning(self._event, error=str(error))
        for give_up in self._held:
            try:
                await give_up()
            except Exception as failed:
                if not is_lost(failed):
                    raise


class NoRetry(Retry):
    """Tries each command once, and tells of what Redis refused."""

    def __init__(self, renewal: FailoverReset | None = None) -> None:
        """Tell `renewal`, if there is one."""
        super().__init__(NoBackoff(), 0)
        self._renewal = renewal

    def __deepcopy__(self, _memo: dict[int, Any]) -> NoRetry:
        """Be the same for all connections of a pool, which copy what they are given."""
        return self

    async def call_with_retry(self, *args: Any, **options: Any) -> Any:
        """Do it once; raises redis-py's ConnectionError for whatever a closed transport raises."""
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
