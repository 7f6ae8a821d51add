"""Secrets without an authorization: reports of a gateway, and tokens of plain HTTP requests.

Wrong ones are counted like those of an authorization. During a lock-out a right one is answered
like a wrong one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from services.approval import log_events
from services.approval.domain.lockout import guessed_without_device
from services.approval.domain.policy import valid_token
from services.approval.storage.keys import device_key
from shared.addresses.client import limit_key
from shared.rpc.messages import (
    DEVICE_TOKEN,
    Denied,
    LockedOut,
    SecretAccepted,
    TokenHolder,
    encode,
)

if TYPE_CHECKING:
    from services.approval.domain.tokens import TokenKeys
    from services.approval.metrics import Metrics
    from services.approval.storage.store import Store
    from shared.rpc.messages import ReportSecret, TokenCheck
    from shared.rpc.responder import Reply
    from shared.secret_digests import SecretDigests


class SecretChecks:
    """Counts reported secrets and checks tokens. Every method may raise StoreUnavailable."""

    def __init__(
        self, *, store: Store, keys: TokenKeys, digests: SecretDigests, metrics: Metrics
    ) -> None:
        self._store = store
        self._keys = keys
        self._digests = digests
        self._metrics = metrics
        self._log = structlog.get_logger("approval")

    async def report(self, report: ReportSecret) -> Reply:
        """Count wrong secrets or clear failures after a correct one; answer if locked out."""
        address = limit_key(report.address)
        head, _held, guards = await self._store.snapshot([], [address])
        guard, now_ms = guards[address], self._store.now_ms()
        locked_ms = guard.locked_ms(report.classes, now_ms)
        guessed = guessed_without_device(report)
        lockouts = self._store.lockouts
        if guard.counts_for(guessed, now_ms) and not lockouts.knows(address, guessed):
            locked_ms = await lockouts.count(
                address, guessed, right_beside=report.right, not_after_ms=report.not_after_ms
            )
        if report.right and not locked_ms and (guessed or guard.holds(report.classes)):
            await lockouts.clear(address, report.classes, not_after_ms=report.not_after_ms)
        decision = "locked-out" if locked_ms else "right-secret" if report.right else "wrong-secret"
        self._metrics.questions.counts[decision] += 1
        self._log.info(
            log_events.QUESTION.name,
            connection=report.call_id,
            device="",
            verdict=decision,
            change=head.number,
        )
        return encode(LockedOut(head, locked_ms) if locked_ms else SecretAccepted(head))

    async def check(self, check: TokenCheck) -> Reply:
        """Answer a check, or return None if that is not possible. Raises StoreUnavailable."""
        address, device_id = limit_key(check.address), check.device_id
        head, (held,), guards = await self._store.snapshot([device_id], [address])
        unreadable = held.unreadable or (
            held.record is None and await self._store.is_unreadable(device_id)
        )
        if unreadable:
            self._metrics.questions.counts["unreadable"] += 1
            self._log.error(
                log_events.UNREADABLE.name, key=device_key(device_id), connection=check.call_id
            )
            return None
        guard, lockouts = guards[address], self._store.lockouts
        token = valid_token(
            held.record.pairing if held.record else None,
            role=check.role,
            candidate=check.token,
            device_id=device_id,
            keys=self._keys,
        )
        now_ms = self._store.now_ms()
        locked_ms = guard.locked_ms([DEVICE_TOKEN], now_ms)
        if token is None and not locked_ms:
            guessed = {DEVICE_TOKEN: [self._digests.of(check.token, device_id, check.role)]}
            if not lockouts.knows(address, guessed):
                locked_ms = await lockouts.count(
                    address, guessed, right_beside=False, not_after_ms=check.not_after_ms
                )
        if locked_ms:
            self._metrics.questions.counts["locked-out"] += 1
            return encode(LockedOut(head, locked_ms))
        if token is None:
            self._metrics.questions.counts["wrong-secret"] += 1
            return encode(Denied(head, "device-token-mismatch"))
        if guard.holds([DEVICE_TOKEN]):
            await lockouts.clear(address, [DEVICE_TOKEN], not_after_ms=check.not_after_ms)
        self._metrics.questions.counts["right-secret"] += 1
        return encode(TokenHolder(head, sorted(token.scopes)))
