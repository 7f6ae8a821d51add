"""Says each second that this replica takes questions, as long as Redis takes its writes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import structlog

from services.approval import log_events
from services.approval.domain.durability import durability_warnings
from services.approval.domain.errors import RegistryError
from shared.observability.health import Health
from shared.rpc.messages import Alive

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.approval.metrics import Metrics
    from services.approval.storage.store import Store
    from shared.clock import Clock

ALIVE_SECONDS: Final = 1.0
SILENCE_SECONDS: Final = 3.0
"""After so long without a write that came through, this replica takes no questions."""
LOOK_SECONDS: Final = 5.0
"""How long nothing is asked between two looks at how durable Redis is."""
LEAVE_SECONDS: Final = 0.25
"""How long it takes until gateways have heard that this replica leaves, and ask others."""
GONE_SECONDS: Final = 0.5
"""How long writing that it is gone may take."""


class LivenessPublisher:
    """Two recurring tasks: `run` announces, and waits for nothing else; `watch` looks at Redis."""

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
        self._trouble = "nothing was written yet"
        self._failing = False
        self._leaving = False
        self._started_at = clock.monotonic()
        self._warnings: tuple[str, ...] = ()
        self.milliseconds = 0.0

    def health(self) -> Health:
        """Say how Redis does as a store; whoever leaves is not ready."""
        if self._leaving:
            return Health(ok=False, reason="this replica is told to stop")
        if not self._writes:
            return Health(ok=False, reason=self._trouble or "no write came through for 3 s")
        if not self._hears:
            return Health(ok=False, reason="its own news has not come back for 3 s")
        return Health(ok=True, reason="writes come through", warnings=self._warnings)

    @property
    def fresh(self) -> bool:
        """Whether own writes and own news came through lately; else nothing is answered (R3)."""
        return self._writes and self._hears

    @property
    def _writes(self) -> bool:
        return self._clock.monotonic() - self._written_at <= SILENCE_SECONDS

    @property
    def _hears(self) -> bool:
        return self._clock.monotonic() - self._heard_at <= SILENCE_SECONDS

    def on_own_event(self) -> None:
        """Take notice that this replica's own news came back."""
        was_fresh = self.fresh
        self._heard_at = self._clock.monotonic()
        if self.fresh and not was_fresh and not self._leaving:
            self._tell(Alive(self._boot_id, ready=True))

    async def leave(self) -> None:
        """Say that this replica takes no more questions, and wait until gateways have heard it.

        It goes on answering those that come.
        """
        self._leaving = True
        self._tell(Alive(self._boot_id, ready=False))
        await asyncio.sleep(LEAVE_SECONDS)

    async def stop(self, *tasks: asyncio.Task[None]) -> None:
        """End the recurring tasks, and write down that this replica is there no more."""
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(RegistryError, TimeoutError):
            async with asyncio.timeout(GONE_SECONDS):
                await self._store.write_gone(self._boot_id)

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
            except Exception:  # noqa: BLE001 (whatever it was, the next round comes)
                self._log.exception("announcing failed")
            due = max(due + ALIVE_SECONDS, self._clock.monotonic())
            await asyncio.sleep(due - self._clock.monotonic())

    async def watch(self) -> None:
        """Look at Redis until cancelled; while it is away, `run` says so, and this does not."""
        while True:
            seconds = LOOK_SECONDS
            try:
                await self._look_at_redis()
            except RegistryError:
                seconds = ALIVE_SECONDS
            except Exception:  # noqa: BLE001 (whatever it was, the next look comes)
                self._log.exception("looking at Redis failed")
            await asyncio.sleep(seconds)

    async def _round(self) -> None:
        uptime_s = int(self._clock.monotonic() - self._started_at)
        await self._store.write_alive(self._boot_id, uptime_s=uptime_s)
        self._trouble = ""
        self._failing = False
        self._written_at = self._clock.monotonic()
        self._tell(Alive(self._boot_id, ready=self.fresh and not self._leaving))

    def _failed(self, why: str) -> None:
        if not self._failing:
            self._log.warning(log_events.STORE_UNAVAILABLE.name, error=why)
        self._failing = True
        self._trouble = why

    async def _look_at_redis(self) -> None:
        """Notice how durable Redis is."""
        info = await self._store.info()
        self._store.has_replicas = info.get("connected_slaves", 0) > 0
        self._warnings = durability_warnings(info, await self._store.appendfsync())
