"""How a process reaches Redis: the only place that knows what kind of address REDIS_URL is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from redis.asyncio import Redis, SSLConnection
from redis.maint_notifications import MaintNotificationsConfig

from shared.clock import SystemClock
from shared.redis import log_events
from shared.redis.address import parse_address
from shared.redis.connection import IDLE_SECONDS
from shared.redis.failover import FailoverReset, NoRetry
from shared.redis.sentinels import SentinelWatch
from shared.redis.server import CheckedConnection, CheckedPool, CheckedTLSConnection

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from shared.clock import Clock


class RedisAccess:
    """Makes the pools and clients of a process, and closes their connections at a failover.

    Nothing is connected before the first use. `reset` also takes the connections that are kept
    outside of pools.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock | None = None,
        log: FilteringBoundLogger | None = None,
        reset: FailoverReset | None = None,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        """Parse the URL without connecting; raises ValueError."""
        self._address = parse_address(url)
        self._idle_seconds = idle_seconds
        log = log or structlog.get_logger("redis")
        self.reset = reset or FailoverReset(clock or SystemClock(), log, log_events.DEMOTED.name)
        self._sentinels = (
            SentinelWatch(self._address, log, self.reset.close_all)
            if self._address.sentinels
            else None
        )

    @property
    def always_replicated(self) -> bool:
        """Whether Redis is known to have replicas, even if none is connected right now."""
        return self._sentinels is not None

    def pool(
        self, max_connections: int, timeout_seconds: float, *, name: str = "", **more: Any
    ) -> CheckedPool:
        """Make a pool whose connections lead to the primary; it is not registered in `reset`."""
        settings: dict[str, Any] = {
            **self._address.server,
            "max_connections": max_connections,
            "timeout": timeout_seconds,
            "socket_timeout": timeout_seconds,
            "socket_connect_timeout": timeout_seconds,
            "retry": NoRetry(),
            "retry_on_timeout": False,
            "driver_info": None,  # else redis-py sends CLIENT SETINFO, which may not be permitted
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
            "decode_responses": False,
            "primary": self._sentinels,
            "own_name": name,
            "idle_seconds": self._idle_seconds,
            **more,
        }
        tls = settings.get("connection_class") is SSLConnection
        settings["connection_class"] = CheckedTLSConnection if tls else CheckedConnection
        return CheckedPool(**settings)

    def client(self, *, max_connections: int, timeout_seconds: float) -> Redis:
        """Create a client for reading and writing keys.

        It waits for a free connection instead of raising immediately, fails after `timeout_seconds`
        without a reply, and never repeats a command by itself: an unconfirmed write may have been
        carried out. If Redis reports that it is not a master, `reset` closes this client's
        connections along with all others registered there.
        """
        pool = self.pool(max_connections, timeout_seconds, retry=NoRetry(self.reset))
        self.reset.hold_pool(pool)
        return Redis.from_pool(pool)

    def trouble(self) -> str:
        """Return why the primary is unknown; empty if it is known, or there is only one server."""
        return self._sentinels.trouble() if self._sentinels is not None else ""

    def warnings(self) -> tuple[str, ...]:
        """Return what is wrong with the sentinels while connections work."""
        return self._sentinels.warnings() if self._sentinels is not None else ()

    async def stop(self) -> None:
        """Stop following the sentinels."""
        if self._sentinels is not None:
            await self._sentinels.stop()


def make_client(
    url: str, *, max_connections: int, timeout_seconds: float, reset: FailoverReset | None = None
) -> Redis:
    """Create a client of one server; see `RedisAccess.client`."""
    access = RedisAccess(url, reset=reset)
    return access.client(max_connections=max_connections, timeout_seconds=timeout_seconds)
