"""Commits what an authorization writes: a pending request, a token, an automatic approval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from services.approval.domain import policy
from services.approval.domain.errors import StoreUnavailable, TooLate
from services.approval.domain.records import EXPIRED, SUPERSEDED
from services.approval.registry.queries import PendingDevice
from services.approval.schemas.devices import pending_json
from services.approval.storage.changes.transaction import Transaction, address_source, device_source
from services.approval.storage.keys import RULES, call_key, turned_away_key
from shared.rpc.messages import Admitted, Answer, Position, TooManyPending, decode_answer, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.approval.domain.records import VersionedRecord
    from services.approval.domain.tokens import TokenKeys
    from services.approval.storage.changes.transaction_log import Committed, TransactionLog
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


class RuleFailed(Exception):
    """A rule did not approve after all: `used-up`, `expired`, `changed` or `turned-away`."""

    def __init__(self, applied: policy.AppliedRule, why: str) -> None:
        super().__init__(why)
        self.applied = applied
        self.why = why


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
        *,
        also: Callable[[Transaction], None] | None = None,
    ) -> Answer | None:
        """Commit and return the answer; None if the decision has to be made again.

        `also` adds to the transaction. Raises StoreUnavailable, TooLate, RuleFailed.
        """
        entry = self._transaction(question, decision, held, now_ms)
        if also is not None:
            also(entry)
        plan = entry.plan
        plan.not_after_ms = question.not_after_ms
        applied = decision.rule if isinstance(decision, policy.Admit) else None
        if applied is not None:
            self._apply_rule(entry, applied, decision, question)
        plan.once(call_key(question.call_id), encode(_cacheable(answer, decision)))
        if isinstance(decision, policy.Ask):
            plan.make_room(
                question.device_id,
                decision.pending.limit_key,
                now_ms,
                total=self._limits.total,
                per_address=self._limits.per_address,
            )
        try:
            committed = await self._ledger.commit(entry)
        except TooLate:
            if applied is not None and plan.not_after_ms != question.not_after_ms:
                raise RuleFailed(applied, "expired") from None
            raise
        if applied is not None and committed.outcome not in {"done", "seen"}:
            self._raise_failure(applied, committed, question)
        if committed.outcome == "done":
            return _stamped(answer, committed.change)
        if committed.outcome == "seen":
            return _stamped(self._previous_answer(question, committed.answer), committed.change)
        return TooManyPending(committed.change) if committed.outcome == "full" else None

    def _apply_rule(
        self,
        entry: Transaction,
        applied: policy.AppliedRule,
        decision: policy.Admit | policy.Ask,
        question: AuthorizeDevice,
    ) -> None:
        """Bind the commit to the rule: unchanged, not expired by Redis's clock, and not used up."""
        silent = decision.silent if isinstance(decision, policy.Admit) else None
        request_id = silent.request_id if silent else ""
        entry.plan.expect(RULES, applied.version)
        entry.use_rule(applied.rule.id, applied.rule.count, request_id, question.device_id)
        last_ms = applied.rule.expires_at_ms - 1
        not_after_ms = entry.plan.not_after_ms
        entry.plan.not_after_ms = min(not_after_ms, last_ms) if not_after_ms else last_ms

    def _raise_failure(
        self, applied: policy.AppliedRule, committed: Committed, question: AuthorizeDevice
    ) -> None:
        """Raise RuleFailed if a commit failed because of its rule, and not of the record."""
        if committed.outcome == "full":
            raise RuleFailed(applied, "used-up")
        if committed.answer == RULES.encode():
            raise RuleFailed(applied, "changed")
        if committed.answer == turned_away_key(question.device_id).encode():
            raise RuleFailed(applied, "turned-away")

    def _previous_answer(self, question: AuthorizeDevice, kept: bytes) -> Answer:
        try:
            answer: Answer = decode_answer(kept)
        except msgspec.MsgspecError:
            message = "the answer to an earlier attempt cannot be read"
            raise StoreUnavailable(message) from None
        if isinstance(answer, Admitted):
            return with_tokens(answer, question, self._keys)
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
        entry = Transaction(_actor(decision, device_id), now_ms)
        entry.replace(held, decision.changed, device_id)
        if isinstance(decision, policy.Admit) and silent is not None:
            if before is not None:
                entry.end_request(device_id, before, SUPERSEDED, silent.request_id)
            superseded = before.request_id if before else ""
            entry.change(
                "approved",
                device_id,
                pending=silent,
                superseded=superseded,
                # A rule acts for the operator who made it, and as often as its count says.
                source=None if decision.rule else address_source(silent.limit_key),
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


def _actor(decision: policy.Admit | policy.Ask, device_id: str) -> str:
    """Return who decided, for the audit log."""
    if isinstance(decision, policy.Ask) or decision.silent is None:
        return f"device {device_id}"
    return f"rule:{decision.rule.name}" if decision.rule else "the rule for local clients"


def with_tokens(answer: Admitted, question: AuthorizeDevice, keys: TokenKeys) -> Admitted:
    """Return an answer that has token ids with the tokens in their place."""

    def derived(role: str, token_id: str) -> str:
        return keys.derive(question.device_id, role, token_id)

    return msgspec.structs.replace(
        answer,
        device_token=derived(question.role, answer.device_token),
        more_tokens=[
            msgspec.structs.replace(one, device_token=derived(one.role, one.device_token))
            for one in answer.more_tokens
        ],
    )


def _stamped(answer: Answer, change: Position) -> Answer:
    """Return the answer with the change it was decided at."""
    return msgspec.structs.replace(answer, change=change)


def _cacheable(answer: Answer, decision: policy.Admit | policy.Ask) -> Answer:
    """Return the answer as stored for retries, with the token's id instead of the token."""
    if isinstance(answer, Admitted) and isinstance(decision, policy.Admit):
        answer = msgspec.structs.replace(answer, device_token=decision.token.token_id)
    return _stamped(answer, Position())
