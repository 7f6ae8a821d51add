"""Announces every second that this replica accepts requests, while its writes to Redis succeed."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import structlog

from services.approval import log_events
from services.approval.domain.errors import RegistryError
from services.approval.storage.requirements import RedisFound
from shared.observability.health import Health
from shared.redis.errors import refuses_writes
from shared.rpc.messages import Alive

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.approval.metrics import Metrics
    from services.approval.storage.store import Store
    from shared.clock import Clock

ALIVE_SECONDS: Final = 1.0
EAGER_SECONDS: Final = 0.25
"""Interval of announcements for ALIVE_SECONDS after Redis was reached again.

Gateways reconnect at about the same time, and miss what is announced before.
"""
SILENCE_SECONDS: Final = 3.0
"""After this time without a successful write, this replica accepts no requests."""
LOOK_SECONDS: Final = 5.0
"""Pause between two checks of Redis's durability settings."""
LEAVE_SECONDS: Final = 0.25
"""Time for gateways to learn that this replica shuts down and to use others."""
GONE_SECONDS: Final = 0.5
"""Timeout for recording the shutdown in Redis."""


class LivenessPublisher:
    """Two recurring tasks: `run` announces liveness and does nothing else; `watch` checks Redis."""

    def __init__(
        self,
        *,
        boot_id: str,
        store: Store,
        tell: Callable[[Alive], None],
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._boot_id = boot_id
        self._store = store
        self._tell = tell
        self._metrics = metrics
        self._clock = clock
        self._log = structlog.get_logger("approval")
        self._written_at = float("-inf")
        self._heard_at = float("-inf")
        self._trouble = "nothing has been written yet"
        self._failing = False
        self._leaving = False
        self._announce = asyncio.Event()
        self._eager_until = float("-inf")
        self._started_at = clock.monotonic()
        self._warnings: tuple[str, ...] = ()
        self.milliseconds = 0.0

    def health(self) -> Health:
        """Return whether the store works; a replica that shuts down is not ready."""
        if self._leaving:
            return Health(ok=False, reason="this replica is shutting down")
        if not self._writes:
            return Health(ok=False, reason=self._trouble or "no write has succeeded for 3 s")
        if not self._hears:
            return Health(ok=False, reason="its own events have not come back for 3 s")
        return Health(ok=True, reason="writes succeed", warnings=self._warnings)

    @property
    def fresh(self) -> bool:
        """Whether own writes and own events came through recently; required to answer (R3)."""
        return self._writes and self._hears

    @property
    def _writes(self) -> bool:
        return self._clock.monotonic() - self._written_at <= SILENCE_SECONDS

    @property
    def _hears(self) -> bool:
        return self._clock.monotonic() - self._heard_at <= SILENCE_SECONDS

    def on_own_event(self) -> None:
        """Record that an event of this replica came back over the bus."""
        was_fresh = self.fresh
        self._heard_at = self._clock.monotonic()
        if self.fresh and not was_fresh and not self._leaving:
            self._tell(Alive(self._boot_id, ready=True))

    def announce_now(self) -> None:
        """Announce at once, because the bus works again: gateways' leases are running out."""
        self._eager_until = self._clock.monotonic() + ALIVE_SECONDS
        self._announce.set()

    async def leave(self) -> None:
        """Announce that this replica accepts no more requests, and wait until gateways know.

        Requests that still arrive are answered.
        """
        self._leaving = True
        self._tell(Alive(self._boot_id, ready=False))
        await asyncio.sleep(LEAVE_SECONDS)

    async def stop(self, *tasks: asyncio.Task[None]) -> None:
        """End the recurring tasks, and record in Redis that this replica is gone."""
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(RegistryError, TimeoutError):
            async with asyncio.timeout(GONE_SECONDS):
                await self._store.liveness.write_gone(self._boot_id)

    async def run(self) -> None:
        """Announce until cancelled."""
        due = self._clock.monotonic()
        while True:
            late = max(0.0, self._clock.monotonic() - due)
            self.milliseconds = late * 1000
            self._metrics.loop_delay.set(late)
            try:
                await self._round()
            except RegistryError as error:
                self._failed(str(error))
                if refuses_writes(error.__cause__):
                    self._refused()
            except Exception:  # noqa: BLE001 (the next round tries again)
                self._log.exception("announcement failed")
            now = self._clock.monotonic()
            interval = EAGER_SECONDS if now < self._eager_until else ALIVE_SECONDS
            due = max(due + interval, now)
            if await self._is_called(due - now):
                due = self._clock.monotonic()

    async def watch(self) -> None:
        """Check Redis until cancelled. Failures are not logged here: `run` logs an outage."""
        while True:
            seconds = LOOK_SECONDS
            try:
                await self._check_redis()
            except RegistryError:
                seconds = ALIVE_SECONDS
            except Exception:  # noqa: BLE001 (the next check tries again)
                self._log.exception("check of Redis failed")
            await asyncio.sleep(seconds)

    async def _is_called(self, seconds: float) -> bool:
        """Wait; return True as soon as `announce_now` is called."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._announce.wait()
        called = self._announce.is_set()
        self._announce.clear()
        return called

    async def _round(self) -> None:
        uptime_s = int(self._clock.monotonic() - self._started_at)
        await self._store.liveness.write_alive(self._boot_id, uptime_s=uptime_s)
        self._trouble = ""
        self._failing = False
        self._written_at = self._clock.monotonic()
        self._tell(Alive(self._boot_id, ready=self.fresh and not self._leaving))

    def _refused(self) -> None:
        """Answer nothing from now on: this server is not the primary, or soon will not be."""
        self._written_at = float("-inf")

    def _failed(self, why: str) -> None:
        if not self._failing:
            self._log.warning(log_events.STORE_UNAVAILABLE.name, error=why)
        self._failing = True
        self._trouble = why

    async def _check_redis(self) -> None:
        """Check what Redis offers, and whether a commit has to wait for a replica of it."""
        store = self._store
        copies = await store.confirming_replicas()
        found = RedisFound(
            await store.info(),
            await store.appendfsync(),
            confirms=copies is not None,
            replicated=store.always_replicated or bool(copies),
        )
        store.has_replicas = found.waits
        self._warnings = found.warnings()
