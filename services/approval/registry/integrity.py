"""Periodic consistency check of the data in Redis, with repairs.

It also writes summaries of audit log entries that were left out.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import structlog

from services.approval.domain.errors import StoreUnavailable
from services.approval.registry import summaries
from services.approval.storage.changes import indexes
from shared.observability.health import Health

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.approval.metrics import Metrics
    from services.approval.storage.changes.transaction_log import TransactionLog
    from services.approval.storage.store import Store

LOOK_SECONDS: Final = 2.0
"""Pause between two checks."""


class Integrity:
    """Recurring check whose findings appear in readiness.

    Commits and heartbeats repair the keys they use; this task finds all other damage.
    """

    def __init__(
        self,
        store: Store,
        ledger: TransactionLog,
        metrics: Metrics,
        *,
        ttl_ms: int,
        ready: Callable[[], bool],
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._ttl_ms = ttl_ms
        self._ready = ready
        self._log = structlog.get_logger("approval")
        self._warnings: tuple[str, ...] = ()
        store.repairs.on_repair = lambda what: metrics.repairs.labels(what).inc()

    def health(self) -> Health:
        """Return whether records can be changed, with a warning if history was lost recently."""
        if trouble := self._store.repairs.trouble:
            return Health(ok=False, reason=trouble)
        advice = self._store.repairs.advice
        warnings = (*self._warnings, advice) if advice else self._warnings
        return Health(ok=True, reason="head, logs and indexes agree", warnings=warnings)

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            for work in (self.look, self._summarise):
                if not self._ready():
                    break
                try:
                    await work()
                except StoreUnavailable:
                    pass  # reported by LivenessPublisher if Redis is away, else by `trouble`
                except Exception:  # noqa: BLE001 (the next check tries again)
                    self._log.exception("integrity check failed")
            await asyncio.sleep(LOOK_SECONDS)

    async def _summarise(self) -> None:
        await summaries.write_due(self._store, self._ledger)

    async def look(self) -> None:
        """Check once and repair what was found. Raises StoreUnavailable."""
        repairs = self._store.repairs
        state = await repairs.look()
        self._warnings = _lost(state.lost)
        if not state.broken:
            repairs.trouble = ""
        for key in state.broken:
            await repairs.repair(key, state.tag)
        if state.broken or state.incomplete_index:
            state = await repairs.look()
            self._warnings = _lost(state.lost)
        if state.incomplete_index:
            await indexes.rebuild(self._store, self._ledger, self._ttl_ms)


def _lost(mark: str) -> tuple[str, ...]:
    seconds, _, key = mark.partition(":")
    if not (seconds.isascii() and seconds.isdigit()):
        return ()
    when = datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%d %H:%M:%S")
    warning = (
        f"history was lost at {when} UTC ({key} was inconsistent) and restarted: all connections "
        "were re-evaluated. Check whether Redis evicts keys, was restored or has other writers"
    )
    return (warning,)
