"""Looks every few seconds whether what Redis keeps still fits together, and has it repaired.

It also writes what is due in the audit log: summaries of entries that were left out.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import structlog

from services.approval.domain.errors import StoreUnavailable
from services.approval.registry import summaries
from services.approval.storage import indexes
from shared.observability.health import Health

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.approval.metrics import Metrics
    from services.approval.storage.store import Store
    from services.approval.storage.transaction_log import TransactionLog

LOOK_SECONDS: Final = 2.0
"""How long nothing is looked at between two looks."""


class Integrity:
    """A recurring task, and what it found for readiness.

    Commits and beats repair what they meet by themselves; this finds the rest.
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
        """Say whether the records can be worked with, and what was lost lately."""
        if trouble := self._store.repairs.trouble:
            return Health(ok=False, reason=trouble)
        advice = self._store.repairs.advice
        warnings = (*self._warnings, advice) if advice else self._warnings
        return Health(ok=True, reason="head, logs and indexes agree", warnings=warnings)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            for work in (self.look, self._summarise):
                if not self._ready():
                    break
                try:
                    await work()
                except StoreUnavailable:
                    pass  # either Redis is away, which the announcer says, or `trouble` tells it
                except Exception:  # noqa: BLE001 (whatever it was, the next look comes)
                    self._log.exception("looking at the records failed")
            await asyncio.sleep(LOOK_SECONDS)

    async def _summarise(self) -> None:
        await summaries.write_due(self._store, self._ledger)

    async def look(self) -> None:
        """Look once, and repair what was found. Raises StoreUnavailable."""
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
            await indexes.rebuild(self._store, self._ttl_ms)


def _lost(mark: str) -> tuple[str, ...]:
    seconds, _, key = mark.partition(":")
    if not (seconds.isascii() and seconds.isdigit()):
        return ()
    when = datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%d %H:%M:%S")
    warning = (
        f"history was lost at {when} UTC ({key} disagreed) and begun anew: all devices were judged "
        "again. See whether Redis evicts, was restored or was written to by others"
    )
    return (warning,)
