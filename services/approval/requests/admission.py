"""Answers requests to authorize devices: one read per batch, a commit only if needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from services.approval import log_events
from services.approval.domain import pairing as grants
from services.approval.domain import policy
from services.approval.domain.errors import StoreUnavailable, TooLate
from services.approval.domain.lockout import (
    NOTHING_HELD,
    FailureCounts,
    failed_with,
    guessed_with,
    proven_with,
    succeeded_with,
    without_locked_secret,
)
from services.approval.domain.records import DISPLACED, EXPIRED, SUPERSEDED
from services.approval.registry.queries import PendingDevice
from services.approval.requests.token_checks import TokenChecks
from services.approval.schemas.devices import pending_json
from services.approval.storage.keys import PENDING as PENDING_INDEX
from services.approval.storage.keys import address_key, call_key, device_key
from services.approval.storage.transaction import address_source, device_source
from services.approval.storage.transaction_log import Transaction, TransactionLog
from shared.addresses import limit_key
from shared.observability.metrics import Children
from shared.rpc.messages import (
    Admitted,
    Answer,
    AuthorizeDevice,
    Denied,
    LockedOut,
    NeedsPairing,
    Position,
    TooManyPending,
    decode_answer,
    encode,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Sequence

    from services.approval.domain.tokens import TokenKeys
    from services.approval.metrics import Metrics
    from services.approval.requests.write_limiter import WriteLimiter
    from services.approval.storage.store import Store, VersionedRecord
    from shared.rpc.responder import Reply
    from shared.secret_digests import SecretDigests

TRIES_LIMIT: Final = 8
"""Max. attempts at a commit that conflicts with others."""


@dataclass(frozen=True, slots=True)
class PendingLimits:
    """Limits on the number of pending requests and their lifetime."""

    ttl_ms: int
    total: int
    per_address: int


class Admissions:
    """Authorizes devices on behalf of gateways."""

    def __init__(
        self,
        *,
        store: Store,
        ledger: TransactionLog,
        keys: TokenKeys,
        digests: SecretDigests,
        draws: grants.IdFactory,
        limits: PendingLimits,
        metrics: Metrics,
        places: WriteLimiter,
    ) -> None:
        self._store = store
        self._digests = digests
        self._places = places
        self._ledger = ledger
        self._keys = keys
        self._draws = draws
        self._limits = limits
        self._decisions = Children(metrics.questions)
        self.token_checks: Final = TokenChecks(
            store=store, keys=keys, digests=digests, metrics=metrics
        )
        self._log = structlog.get_logger("approval").bind()  # unbound, it is set up for each line

    async def handle_batch(
        self, questions: Sequence[AuthorizeDevice]
    ) -> list[Reply | asyncio.Future[Reply]]:
        """Answer a batch of requests; None where the outcome is unknown.

        A request that needs a write is answered by a future, so that the others do not wait for
        it, or with BUSY.
        """
        addresses = [limit_key(question.address) for question in questions]
        try:
            head, held, guards = await self._store.load_guarded(
                [question.device_id for question in questions], list(dict.fromkeys(addresses))
            )
        except StoreUnavailable as missing:
            self._log.warning(log_events.STORE_UNAVAILABLE.name, error=str(missing))
            return [None] * len(questions)
        now_ms = self._store.now_ms()
        replies: list[Reply | asyncio.Future[Reply]] = []
        for question, one, address in zip(questions, held, addresses, strict=True):
            if 0 < question.not_after_ms < now_ms:
                self._decisions.labels("late").inc()
                replies.append(None)
            elif one.unreadable:
                self._note_unreadable(question)
                replies.append(None)
            else:
                replies.append(self._reply(question, head, one, guards[address], now_ms))
        return replies

    def _reply(
        self,
        question: AuthorizeDevice,
        head: Position,
        held: VersionedRecord,
        guard: FailureCounts,
        now_ms: int,
    ) -> Reply | asyncio.Future[Reply]:
        """Decide from what was read; pass necessary writes to the write limiter."""
        decided = self._decide(question, head, held, guard, now_ms)
        return decided if isinstance(decided, bytes) else self._places.reply(decided)

    def _decide(
        self,
        question: AuthorizeDevice,
        head: Position,
        held: VersionedRecord,
        guard: FailureCounts,
        now_ms: int,
    ) -> bytes | Callable[[], Awaitable[Reply]]:
        """Return the answer, or the work that leads to it."""
        if question.trusted:
            guard = NOTHING_HELD
        question = without_locked_secret(question, guard, now_ms)
        decision = self._evaluate(question, held, now_ms)
        denied = isinstance(decision, policy.Deny) and decision.why == "device-token-mismatch"
        guessed = guessed_with(question, self._digests, denied=denied)
        counts = guard.counts_for(guessed, now_ms) and not self._store.lockouts.knows(
            limit_key(question.address), guessed
        )
        locked_ms = guard.locked_ms(
            failed_with(question) if denied else succeeded_with(question), now_ms
        )
        if locked_ms or denied:
            refusal = (
                LockedOut(head, locked_ms) if locked_ms else Denied(head, "device-token-mismatch")
            )
            if counts:
                return partial(self._count_failure, question, guessed, refusal, held)
            return self._encode_answer(question, refusal)
        if counts or guard.holds(proven_with(question)):
            return partial(self._settle_secrets, question, head, held, guessed if counts else {})
        if isinstance(decision, policy.Deny) or decision.changed is None:
            return self._encode_answer(question, self._to_answer(question, decision, head))
        return partial(self._write, question, head, held)

    def _note_unreadable(self, question: AuthorizeDevice) -> None:
        """Record a request left unanswered because of an unreadable record."""
        self._decisions.labels("unreadable").inc()
        self._log.error(
            log_events.UNREADABLE.name,
            key=device_key(question.device_id),
            connection=question.call_id,
        )

    async def _count_failure(
        self,
        question: AuthorizeDevice,
        guessed: dict[str, list[str]],
        answer: LockedOut | Denied,
        held: VersionedRecord,
    ) -> Reply:
        """Count wrong secrets before answering; the answer may become LockedOut."""
        try:
            if held.record is None and await self._store.is_unreadable(question.device_id):
                self._note_unreadable(question)
                return None
            locked_ms = await self._count(question, guessed)
        except StoreUnavailable as missing:
            self._warn(question, missing)
            return None
        if locked_ms and isinstance(answer, Denied):
            answer = LockedOut(answer.change, locked_ms)
        return self._encode_answer(question, answer)

    async def _settle_secrets(
        self,
        question: AuthorizeDevice,
        head: Position,
        held: VersionedRecord,
        guessed: dict[str, list[str]],
    ) -> Reply:
        """Count wrong gateway tokens, clear failures of the proven secret, then proceed.

        If the guesses lock out a correct gateway token, decide again: the token is then treated
        like a wrong one.
        """
        address = limit_key(question.address)
        try:
            if guessed and await self._count(question, guessed) and question.method == "token":
                head, (held,), guards = await self._store.load_guarded(
                    [question.device_id], [address]
                )
                now_ms = self._store.now_ms()
                decided = self._decide(question, head, held, guards[address], now_ms)
                return decided if isinstance(decided, bytes) else await decided()
            await self._store.lockouts.clear(
                address, proven_with(question), not_after_ms=question.not_after_ms
            )
        except StoreUnavailable as missing:
            self._warn(question, missing)
            return None
        return await self._write(question, head, held)

    async def _count(self, question: AuthorizeDevice, guessed: dict[str, list[str]]) -> int:
        return await self._store.lockouts.count(
            limit_key(question.address),
            guessed,
            right_beside=question.method == "token",
            not_after_ms=question.not_after_ms,
        )

    async def _write(
        self, question: AuthorizeDevice, head: Position, held: VersionedRecord
    ) -> Reply:
        try:
            answer = await self._answer(question, head, held)
        except StoreUnavailable as missing:
            self._warn(question, missing)
            return None
        return None if answer is None else self._encode_answer(question, answer)

    def _warn(self, question: AuthorizeDevice, missing: StoreUnavailable) -> None:
        if isinstance(missing, TooLate):
            self._decisions.labels("late").inc()
            return
        self._log.warning(
            log_events.STORE_UNAVAILABLE.name, connection=question.call_id, error=str(missing)
        )

    async def _answer(
        self, question: AuthorizeDevice, head: Position, held: VersionedRecord
    ) -> Answer | None:
        """Decide and commit, retrying on conflicts; None if the outcome is unknown."""
        for _ in range(TRIES_LIMIT):
            now_ms = self._store.now_ms()
            decision = self._evaluate(question, held, now_ms)
            answer = self._to_answer(question, decision, head)
            if isinstance(decision, policy.Deny) or decision.changed is None:
                return answer
            entry = self._entry(question, decision, held, now_ms)
            outcome = await self._commit(question, entry, decision, answer)
            if outcome is not None:
                return outcome
            head, fresh = await self._store.load([question.device_id])
            held = fresh[0]
            if held.unreadable:
                return None
        return None

    def _evaluate(
        self, question: AuthorizeDevice, held: VersionedRecord, now_ms: int
    ) -> policy.Decision:
        return policy.authorize(
            held.record,
            question,
            now_ms=now_ms,
            ttl_ms=self._limits.ttl_ms,
            keys=self._keys,
            draws=self._draws,
        )

    def _encode_answer(self, question: AuthorizeDevice, answer: Answer) -> bytes:
        self._record(question, answer)
        return encode(answer)

    def _to_answer(
        self, question: AuthorizeDevice, decision: policy.Decision, at: Position
    ) -> Answer:
        if isinstance(decision, policy.Deny):
            return Denied(at, decision.why)
        if isinstance(decision, policy.Admit):
            token = decision.token
            self._store.addresses.learn(limit_key(question.address))
            return Admitted(
                at,
                device_token=self._keys.derive(question.device_id, question.role, token.token_id),
                token_scopes=list(token.scopes),
                issued_at_ms=token.issued_at_ms,
                epoch=token.epoch,
                method=question.method,
            )
        pairing = decision.pairing
        return NeedsPairing(
            at,
            reason=decision.reason,
            request_id=decision.pending.request_id,
            approved_roles=list(pairing.roles) if pairing else None,
            approved_scopes=list(pairing.scopes) if pairing else None,
        )

    def _entry(
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
        entry.keep_request(device_id, pending, self._limits.ttl_ms)
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

    async def _commit(
        self,
        question: AuthorizeDevice,
        entry: Transaction,
        decision: policy.Admit | policy.Ask,
        answer: Answer,
    ) -> Answer | None:
        """Commit and return the answer; None if the decision has to be made again."""
        plan = entry.plan
        plan.not_after_ms = question.not_after_ms
        plan.once(call_key(question.call_id), encode(_cacheable(answer, decision)))
        counted_by = ""
        if isinstance(decision, policy.Ask):
            counted_by, device_id = decision.pending.limit_key, question.device_id
            plan.limit(PENDING_INDEX, self._limits.total, device_id)
            plan.limit(address_key(counted_by), self._limits.per_address, device_id)
        committed = await self._ledger.commit(entry)
        if committed.outcome == "done":
            return _stamped(answer, committed.change)
        if committed.outcome == "seen":
            return _stamped(self._previous_answer(question, committed.answer), committed.change)
        if committed.outcome == "full" and not await self._displace_oldest(question, counted_by):
            return TooManyPending(committed.change)
        return None

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

    async def _displace_oldest(self, question: AuthorizeDevice, counted_by: str) -> bool:
        """End the oldest request of the same address, so a flood only displaces itself."""
        oldest = await self._store.oldest_from(counted_by, but=question.device_id)
        if oldest is None:
            return False
        _head, held = await self._store.load([oldest])
        record = held[0].record
        entry = Transaction("limit", self._store.now_ms())
        entry.plan.not_after_ms = question.not_after_ms
        if record is None or record.pending is None or record.pending.limit_key != counted_by:
            entry.forget_of_address(counted_by, oldest)
            await self._ledger.commit(entry)
        else:
            entry.replace(held[0], grants.without_pending(record), oldest)
            entry.end_request(oldest, record.pending, DISPLACED)
            entry.change(
                "displaced", oldest, pending=record.pending, source=address_source(counted_by)
            )
            await self._ledger.commit(entry)
        return True

    def _record(self, question: AuthorizeDevice, answer: Answer) -> None:
        """Log and count the decision, under the connection id that the gateway logs."""
        decision = _decision_name(answer)
        self._decisions.labels(decision).inc()
        more = {"request_id": answer.request_id} if isinstance(answer, NeedsPairing) else {}
        self._log.info(
            log_events.QUESTION.name,
            connection=question.call_id,
            device=question.device_id,
            verdict=decision,
            role=question.role,
            change=answer.change.number,
            **more,
        )
        if decision == "key-mismatch":
            self._log.error(
                log_events.KEY_MISMATCH.name,
                connection=question.call_id,
                device=question.device_id,
            )


def _decision_name(answer: Answer) -> str:
    """Return the name of an answer in log and metrics."""
    if isinstance(answer, Admitted):
        return "admitted"
    if isinstance(answer, NeedsPairing):
        return answer.reason
    if isinstance(answer, Denied):
        return answer.why
    return "locked-out" if isinstance(answer, LockedOut) else "pending-limit"


def _stamped(answer: Answer, change: Position) -> Answer:
    """Return the answer with the change it was decided at."""
    return msgspec.structs.replace(answer, change=change)


def _cacheable(answer: Answer, decision: policy.Admit | policy.Ask) -> Answer:
    """Return the answer as stored for retries, with the token's id instead of the token."""
    if isinstance(answer, Admitted) and isinstance(decision, policy.Admit):
        answer = msgspec.structs.replace(answer, device_token=decision.token.token_id)
    return _stamped(answer, Position())
