"""Follows Redis Sentinel: finds the primary, and notices a failover immediately.

Each sentinel is asked every second, and whenever it announces a failover. Their answers are
compared in `primary`, because a sentinel that was cut off still names the old primary.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig

from shared.redis import log_events, primary
from shared.redis.address import Place
from shared.redis.errors import PrimaryUnknown
from shared.redis.lost import is_lost
from shared.redis.primary import Named, Silent, View
from shared.redis.sentences import NOT_SENTINEL, SERVICE_UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from structlog.typing import FilteringBoundLogger

    from shared.redis.address import RedisAddress

ANSWER_SECONDS: Final = 0.5
"""Maximum time for connecting to a sentinel, and for each of its replies."""
ASK_SECONDS: Final = 1.0
"""Interval between two questions to a sentinel that announces nothing."""
RETRY_SECONDS: Final = 0.5
"""Pause before a silent sentinel is tried again."""
FIND_SECONDS: Final = 1.5
"""How long a first connection waits for a sentinel to name the primary."""
ANNOUNCEMENTS: Final = ("+switch-master", "+promoted-slave", "+config-update-from")
"""A failover as the sentinels publish it. The one that leads it publishes `+switch-master` only
after all replicas follow the new primary, but `+promoted-slave` at once."""


class SentinelWatch:
    """The primary as the sentinels of one URL name it.

    `on_failover` closes the connections to the old primary. Nothing runs before the first `find`.
    """

    def __init__(
        self,
        address: RedisAddress,
        log: FilteringBoundLogger,
        on_failover: Callable[[], Awaitable[None]],
    ) -> None:
        self._address = address
        self._log = log
        self._on_failover = on_failover
        self._views: list[View] = [None] * len(address.sentinels)
        self._known: Named | None = None
        self._judged = asyncio.Event()
        """Set once a primary is known, or every sentinel has failed to name one."""
        self.opening: Final[set[asyncio.Timeout]] = set()
        """Connections to the primary that are being opened."""
        self._following: list[asyncio.Task[None]] = []
        self._closing: set[asyncio.Future[None]] = set()

    async def find(self) -> Place:
        """Return the primary, waiting for the first answer; raises PrimaryUnknown."""
        if not self._following:
            self._following = [
                asyncio.create_task(self._follow(at), name=f"sentinel-{at}")
                for at in range(len(self._views))
            ]
        if self._known is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(FIND_SECONDS):
                    await self._judged.wait()
        if self._known is None:
            raise PrimaryUnknown(primary.trouble(self._views))
        return self._known.place

    def is_at(self, place: Place) -> bool:
        """Return whether this is the primary, as far as is known now."""
        return self._known is not None and self._known.place == place

    def trouble(self) -> str:
        """Return why the primary is unknown; empty if it is known."""
        return "" if self._known is not None else primary.trouble(self._views)

    def warnings(self) -> tuple[str, ...]:
        """Return what is wrong with the sentinels while the primary is known."""
        return primary.warnings(self._views, self._known)

    async def stop(self) -> None:
        """Stop following."""
        tasks: list[asyncio.Future[None]] = [*self._following, *self._closing]
        self._following = []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, at: int) -> None:
        """Ask one sentinel until cancelled."""
        place = self._address.sentinels[at]
        while True:
            client = self._client(place)
            try:
                await self._listen(client, at)
            except Exception as error:  # noqa: BLE001  whatever it was, ask again
                if not is_lost(error):
                    self._log.exception("following a sentinel failed")
                self._note(at, _silent(place, error))
            finally:
                with suppress(Exception):
                    await client.aclose()
            await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self, client: Any, at: int) -> None:
        """Ask now, each second, and at each announcement, until the sentinel fails."""
        await self._ask(client, at)
        async with client.pubsub() as announcements:
            await announcements.subscribe(*ANNOUNCEMENTS)
            while True:
                await announcements.get_message(timeout=ASK_SECONDS)
                await self._ask(client, at)

    async def _ask(self, client: Any, at: int) -> None:
        place, service = self._address.sentinels[at], self._address.service
        # Both in one write: a sentinel answers them without a change in between.
        pipeline = client.pipeline(transaction=False)
        pipeline.sentinel_master(service)
        pipeline.sentinel_get_master_addr_by_name(service)
        async with asyncio.timeout(ANSWER_SECONDS):
            state, where = await pipeline.execute(raise_on_error=False)
        for reply in (state, where):
            if isinstance(reply, Exception):
                if "No such master" in str(reply):
                    self._note(
                        at, Silent(f"the service `{service}` {SERVICE_UNKNOWN}", always=True)
                    )
                    return
                raise reply
        if where is None:
            self._note(at, Silent(f"{place} names no primary"))
            return
        host, port = where
        named = Place(host.decode() if isinstance(host, bytes) else str(host), int(port))
        self._note(at, Named(named, int(state["config-epoch"])))

    def _note(self, at: int, view: View) -> None:
        """Take over what a sentinel said, and close connections to a primary of the past."""
        before, self._views[at] = self._views[at], view
        sentinel = str(self._address.sentinels[at])
        if isinstance(view, Silent):
            if not isinstance(before, Silent):
                self._log.warning(log_events.SENTINEL_LOST.name, sentinel=sentinel, error=view.why)
        elif isinstance(before, Silent):
            self._log.info(log_events.SENTINEL_BACK.name, sentinel=sentinel)
        old, new = self._known, primary.choose(self._views, self._known)
        self._known = new
        if new is not None and old is None:
            self._log.info(log_events.PRIMARY.name, primary=str(new.place))
        elif new is not None and old is not None and new.place != old.place:
            self._log.warning(
                log_events.FAILED_OVER.name, primary=str(new.place), old=str(old.place)
            )
            for scope in self.opening:
                scope.reschedule(asyncio.get_running_loop().time())
            closing = asyncio.ensure_future(self._on_failover())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        if new is not None or None not in self._views:
            self._judged.set()

    def _client(self, place: Place) -> Any:
        settings: dict[str, Any] = {
            **self._address.sentinel,
            "host": place.host,
            "port": place.port,
            "socket_timeout": ANSWER_SECONDS,
            "socket_connect_timeout": ANSWER_SECONDS,
            "retry": Retry(NoBackoff(), 0),
            "driver_info": None,
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        }
        return Redis.from_pool(ConnectionPool(**settings))


def _silent(place: Place, error: Exception) -> Silent:
    """Say in one sentence why a sentinel named no primary."""
    text = str(error)
    if isinstance(error, AuthenticationError):
        return Silent(
            f"sentinel {place} refuses the login: REDIS_URL needs its sentinel_username and "
            "sentinel_password, or names the wrong port",
            always=True,
        )
    if isinstance(error, NoPermissionError):
        return Silent(
            f"sentinel {place} refuses a command: its user needs the commands `sentinel` and "
            "`subscribe`",
            always=True,
        )
    if isinstance(error, ResponseError) and "unknown command" in text.lower():
        return Silent(f"{place} {NOT_SENTINEL}", always=True)
    return Silent(f"sentinel {place}: {text or 'no answer in time'}")
