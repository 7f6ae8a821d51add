"""Lists and lifts active lock-outs; for operators only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.approval.domain import authorization
from services.approval.domain.errors import StoreUnavailable, UnknownLockout
from services.approval.domain.lockout import REMEMBERED_MS, index_member
from services.approval.domain.permissions import Permission
from services.approval.domain.records import AuditEntry
from services.approval.storage.changes.transaction import Transaction
from services.approval.storage.keys import LOCKOUTS, guard_key, wrong_values_key
from shared.addresses.client import parse_address
from shared.rpc.messages import Changed, Position

if TYPE_CHECKING:
    from services.approval.domain.authorization import Caller
    from services.approval.domain.lockout import Lockout
    from services.approval.storage.changes.transaction_log import TransactionLog
    from services.approval.storage.store import Store

LISTED_LIMIT: Final = 1_000
"""Max. lock-outs listed; those that end last come first."""
LIFTED: Final = "lockout-lifted"
"""Action in the audit log."""
TRIES_LIMIT: Final = 32
"""Max. attempts at a commit that conflicts with failures counted concurrently."""


class LockoutRegistry:
    """Active lock-outs. Every method may raise RegistryError."""

    def __init__(self, store: Store, ledger: TransactionLog) -> None:
        self._store = store
        self._ledger = ledger

    async def running(self, caller: Caller) -> list[Lockout]:
        """Return the active lock-outs."""
        authorization.require_admin(caller)
        return await self._store.lockouts.running(self._store.now_ms(), LISTED_LIMIT)

    async def lift(self, caller: Caller, credential: str, address: str) -> Lockout:
        """End a lock-out at every replica and return it; raises UnknownLockout.

        `address` may be any address that the lock-out covers. Counting restarts, but known wrong
        values stay remembered, so the clients that caused the lock-out do not cause it again.
        """
        authorization.require_admin(caller)
        authorization.require_permission(caller, Permission.DECIDE)
        parsed = parse_address(address)
        limit_key = parsed.limit_key if parsed else address
        for _ in range(TRIES_LIMIT):
            lifted = await self._try_lift(caller, credential, limit_key)
            if lifted is not None:
                return lifted
        message = "the lock-out could not be lifted: new failures kept being counted"
        raise StoreUnavailable(message)

    async def _try_lift(self, caller: Caller, credential: str, limit_key: str) -> Lockout | None:
        """Try once; return None on a conflict with a concurrent count."""
        guard, wrong = await self._store.lockouts.guarded(limit_key)
        now_ms = self._store.now_ms()
        lockout = guard.lockout(credential, limit_key, now_ms)
        if lockout is None:
            raise UnknownLockout
        entry = Transaction(caller.name, now_ms)
        plan = entry.plan
        plan.expect(wrong_values_key(limit_key), wrong.version)
        values = wrong.under_another_version(now_ms)
        plan.write("SET", wrong_values_key(limit_key), values, "PX", REMEMBERED_MS)
        left = guard.without(credential)
        if left:
            plan.write("SET", guard_key(limit_key), left, "PX", guard.kept_ms(now_ms))
        else:
            plan.write("DEL", guard_key(limit_key))
        plan.write("ZREM", LOCKOUTS, index_member(credential, limit_key))
        plan.change(
            Changed(Position(), "", device_id="", kind=LIFTED, at_ms=now_ms),
            AuditEntry(
                action=LIFTED,
                device_id="",
                actor=caller.name,
                at_ms=now_ms,
                address=limit_key,
                credential=credential,
            ),
        )
        committed = await self._ledger.commit(entry)
        return lockout if committed.outcome == "done" else None
