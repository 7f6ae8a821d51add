"""Commits what an authorization writes: a pending request, a token, an automatic approval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from services.approval.domain import policy
from services.approval.domain.errors import StoreUnavailable
from services.approval.domain.records import EXPIRED, SUPERSEDED
from services.approval.registry.queries import PendingDevice
from services.approval.schemas.devices import pending_json
from services.approval.storage.changes.transaction import Transaction, address_source, device_source
from services.approval.storage.keys import call_key
from shared.rpc.messages import Admitted, Answer, Position, TooManyPending, decode_answer, encode

if TYPE_CHECKING:
    from services.approval.domain.records import VersionedRecord
    from services.approval.domain.tokens import TokenKeys
    from services.approval.storage.changes.transaction_log import TransactionLog
    from services.approval.storage.store import Store
    from shared.rpc.messages import AuthorizeDevice

TRIES_LIMIT: Final = 8
"""Max. attempts at a commit that conflicts with others."""


@dataclass(frozen=True, slots=True)
class PendingLimits:
    """Limits on the number of pending requests and their lifetime."""

    ttl_ms: int
    total: int
    per_address: int


class AdmissionCommits:
    """Commits decisions once for each call, however often the call is retried."""

    def __init__(
        self, store: Store, ledger: TransactionLog, keys: TokenKeys, limits: PendingLimits
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._keys = keys
        self._limits = limits

    async def commit(
        self,
        question: AuthorizeDevice,
        decision: policy.Admit | policy.Ask,
        answer: Answer,
        held: VersionedRecord,
        now_ms: int,
    ) -> Answer | None:
        """Commit and return the answer; None if the decision has to be made again.

        Raises StoreUnavailable, TooLate.
        """
        entry = self._transaction(question, decision, held, now_ms)
        plan = entry.plan
        plan.not_after_ms = question.not_after_ms
        plan.once(call_key(question.call_id), encode(_cacheable(answer, decision)))
        if isinstance(decision, policy.Ask):
            plan.make_room(
                question.device_id,
                decision.pending.limit_key,
                now_ms,
                total=self._limits.total,
                per_address=self._limits.per_address,
            )
        committed = await self._ledger.commit(entry)
        if committed.outcome == "done":
            return _stamped(answer, committed.change)
        if committed.outcome == "seen":
            return _stamped(self._previous_answer(question, committed.answer), committed.change)
        return TooManyPending(committed.change) if committed.outcome == "full" else None

    def _previous_answer(self, question: AuthorizeDevice, kept: bytes) -> Answer:
        try:
            answer: Answer = decode_answer(kept)
        except msgspec.MsgspecError:
            message = "the answer to an earlier attempt cannot be read"
            raise StoreUnavailable(message) from None
        if isinstance(answer, Admitted):
            token = self._keys.derive(question.device_id, question.role, answer.device_token)
            return msgspec.structs.replace(answer, device_token=token)
        return answer

    def _transaction(
        self,
        question: AuthorizeDevice,
        decision: policy.Admit | policy.Ask,
        held: VersionedRecord,
        now_ms: int,
    ) -> Transaction:
        device_id = question.device_id
        before = held.record.pending if held.record else None
        silent = decision.silent if isinstance(decision, policy.Admit) else None
        entry = Transaction(
            "the rule for local clients" if silent else f"device {device_id}", now_ms
        )
        entry.replace(held, decision.changed, device_id)
        if silent is not None:
            if before is not None:
                entry.end_request(device_id, before, SUPERSEDED, silent.request_id)
            superseded = before.request_id if before else ""
            entry.change(
                "approved",
                device_id,
                pending=silent,
                superseded=superseded,
                source=address_source(silent.limit_key),
            )
            return entry
        if isinstance(decision, policy.Admit):
            entry.change(
                decision.kind,
                device_id,
                role=question.role,
                scopes=decision.token.scopes,
                source=device_source(device_id),
            )
            return entry
        pending = decision.pending
        if before is not None and decision.superseded:
            entry.end_request(device_id, before, SUPERSEDED, pending.request_id)
        elif before is not None and before.request_id != pending.request_id:
            entry.end_request(device_id, before, EXPIRED)
            entry.change(
                "expired", device_id, pending=before, source=address_source(before.limit_key)
            )
        entry.keep_request(
            device_id, pending, self._limits.ttl_ms, is_paired=decision.pairing is not None
        )
        if decision.kind:
            entry.change(
                decision.kind,
                device_id,
                pending=pending,
                superseded=decision.superseded,
                request=pending_json(
                    PendingDevice(
                        device_id, question.public_key, pending, decision.pairing is not None
                    )
                ),
                source=address_source(pending.limit_key),
            )
        return entry


def _stamped(answer: Answer, change: Position) -> Answer:
    """Return the answer with the change it was decided at."""
    return msgspec.structs.replace(answer, change=change)


def _cacheable(answer: Answer, decision: policy.Admit | policy.Ask) -> Answer:
    """Return the answer as stored for retries, with the token's id instead of the token."""
    if isinstance(answer, Admitted) and isinstance(decision, policy.Admit):
        answer = msgspec.structs.replace(answer, device_token=decision.token.token_id)
    return _stamped(answer, Position())
