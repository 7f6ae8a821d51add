"""Background task that ends expired requests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from services.approval.domain import pairing
from services.approval.domain.errors import StoreUnavailable
from services.approval.domain.records import EXPIRED
from services.approval.storage.changes.transaction import Transaction, address_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from services.approval.domain.records import VersionedRecord
    from services.approval.storage.changes.transaction_log import TransactionLog
    from services.approval.storage.store import Store
    from shared.clock import Clock

ROUNDS_APART_SECONDS: Final = 5.0
"""Pause between two rounds."""
EXPIRED_PER_ROUND: Final = 100
"""Max. requests that one round ends."""
ROUND_SECONDS: Final = 2.0
"""After this time a round starts no further commit, however slow Redis is."""
STOP_SECONDS: Final = 2.0
"""How long `stop` waits for a commit in progress."""


class Expiry:
    """Ends expired requests in rounds, one commit after another.

    Rounds do nothing unless `ready()`: a replica that is not ready may not know Redis's time. All
    replicas read the same list, so each processes it in random order to reduce conflicts.
    """

    def __init__(
        self,
        store: Store,
        ledger: TransactionLog,
        *,
        ttl_ms: int,
        ready: Callable[[], bool],
        clock: Clock,
        chance: Random,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._ttl_ms = ttl_ms
        self._ready = ready
        self._clock = clock
        self._chance = chance
        self._log = structlog.get_logger("approval")
        self._working = False
        self._leaving = False

    async def run(self) -> None:
        """End expired requests until stopped; a random delay spreads replicas started together."""
        await asyncio.sleep(self._chance.uniform(0, ROUNDS_APART_SECONDS))
        while not self._leaving:
            if self._ready():
                self._working = True
                try:
                    await self.end_void(EXPIRED_PER_ROUND)
                except StoreUnavailable:
                    pass  # LivenessPublisher logs this, once
                except Exception:  # noqa: BLE001 (the next round tries again)
                    self._log.exception("expiry failed")
                self._working = False
            if not self._leaving:
                await asyncio.sleep(ROUNDS_APART_SECONDS)

    async def stop(self, task: asyncio.Task[None]) -> None:
        """End the running task once the commit in progress is done."""
        self._leaving = True
        if self._working:
            await asyncio.wait([task], timeout=STOP_SECONDS)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def end_void(self, limit: int) -> int:
        """End at most `limit` expired requests within ROUND_SECONDS; return how many.

        Raises StoreUnavailable.
        """
        began = self._clock.monotonic()
        void = await self._store.expired(self._store.now_ms(), limit)
        if not void:
            return 0
        self._chance.shuffle(void)
        _head, found = await self._store.load(void)
        ended = 0
        for device_id, held in zip(void, found, strict=True):
            if self._leaving or self._clock.monotonic() - began >= ROUND_SECONDS:
                break
            ended += await self._end(device_id, held)
        return ended

    async def _forget(self, entry: Transaction, device_id: str, held: VersionedRecord) -> None:
        """Remove a device without a request from the index, where it would take up room."""
        if held.unreadable or (held.record is None and await self._store.is_unreadable(device_id)):
            return  # it stays listed until a person removes it
        entry.require(device_id, held.version)
        entry.forget_request(device_id)
        await self._ledger.commit(entry)

    async def _end(self, device_id: str, held: VersionedRecord) -> bool:
        """End a device's request unless it was refreshed or changed concurrently."""
        entry = Transaction("expiry", self._store.now_ms())
        pending = held.record.pending if held.record else None
        if held.record is None or pending is None:
            await self._forget(entry, device_id, held)
            return False
        if not pending.expired(entry.now_ms, self._ttl_ms):
            return False
        entry.replace(held, pairing.without_pending(held.record), device_id)
        entry.end_request(device_id, pending, EXPIRED)
        entry.change(
            "expired", device_id, pending=pending, source=address_source(pending.limit_key)
        )
        committed = await self._ledger.commit(entry)
        return committed.outcome == "done"
