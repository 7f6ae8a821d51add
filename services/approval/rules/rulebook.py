"""The rules as one replica knows them.

A copy in memory decides whether a rule covers a request, so that rules cost no read while devices
connect. It may be out of date by REFRESH_SECONDS: a commit by a rule therefore requires that the
rules are still those of the copy, and then decides anew.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from services.approval import log_events
from services.approval.domain.errors import StoreUnavailable, UnreadableRecord
from services.approval.domain.rules import NO_RULES, Rules

if TYPE_CHECKING:
    from services.approval.domain.policy import AppliedRule
    from services.approval.storage.store import Store

REFRESH_SECONDS: Final = 1.0
"""Max. time after which a new rule is known here, even if its event was lost."""
TURNED_AWAY_MS: Final = 60_000
"""How long it is remembered here that a person turned a device away, to save attempts to commit."""
TURNED_AWAY_LIMIT: Final = 1_024
"""Max. devices of which this is remembered."""


class RuleBook:
    """Keeps a copy of the rules. `used_up` are the ids of rules whose count is used up."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed = asyncio.Event()
        self.current: Rules = NO_RULES
        self.active = False
        """Whether there are any rules."""
        self.used_up: frozenset[str] = frozenset()
        self._turned_away: dict[str, int] = {}

    def wake(self) -> None:
        """Read the rules again soon, because they have changed."""
        self._changed.set()

    async def run(self) -> None:
        """Keep the copy up to date until cancelled."""
        log = structlog.get_logger("approval")
        while True:
            try:
                await self.refresh()
            except StoreUnavailable:
                pass  # reported by LivenessPublisher; what an old copy approves is not committed
            except Exception:
                log.exception(log_events.RULES_UNREADABLE.name)
            try:
                async with asyncio.timeout(REFRESH_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()

    async def refresh(self) -> None:
        """Read the rules; raises StoreUnavailable. If they cannot be decoded, none applies."""
        try:
            found = await self._store.rules.all()
        except StoreUnavailable as error:
            if isinstance(error, UnreadableRecord):
                self.current, self.active = NO_RULES, False
            raise
        if found.version != self.current.version:
            self.current, self.active = found, bool(found)
            self.used_up &= {rule.id for rule in found.by_name.values()}

    def rules_for(self, device_id: str) -> Rules:
        """Return the rules that may approve this device: none if a person turned it away."""
        if not self._turned_away:
            return self.current
        until_ms = self._turned_away.get(device_id, 0)
        if self._store.now_ms() < until_ms:
            return NO_RULES
        self._turned_away.pop(device_id, None)
        return self.current

    async def on_failure(self, applied: AppliedRule, device_id: str, why: str) -> set[str]:
        """Learn why a rule failed, for the next decision; return the ids of rules to leave out.

        Raises StoreUnavailable.
        """
        if why == "changed":
            await self.refresh()
            return set()
        if why == "turned-away":
            if len(self._turned_away) >= TURNED_AWAY_LIMIT:
                self._turned_away.clear()
            self._turned_away[device_id] = self._store.now_ms() + TURNED_AWAY_MS
            return set()
        if why == "used-up":
            self.used_up |= {applied.rule.id}
        return {applied.rule.id}
