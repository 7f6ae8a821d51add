"""Answers requests to authorize devices: one read per message, a commit only if needed.

The ordinary request is decided and answered in the callback of that read.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import structlog
from msgspec.structs import replace

from services.approval import log_events
from services.approval.domain import policy
from services.approval.domain.errors import StoreUnavailable, TooLate
from services.approval.domain.lockout import (
    NOTHING_HELD,
    failed_with,
    guessed_with,
    proven_with,
    succeeded_with,
    without_locked_secret,
)
from services.approval.requests.admission_commit import (
    TRIES_LIMIT,
    AdmissionCommits,
    RuleFailed,
)
from services.approval.requests.setup_admission import SetupAdmissions
from services.approval.requests.write_limiter import WriteKind
from services.approval.rules.rulebook import RuleBook
from services.approval.storage.keys import device_key
from shared.addresses.client import limit_key
from shared.rpc.messages import Admitted, Denied, LockedOut, NeedsPairing, encode

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from services.approval.domain.lockout import FailureCounts
    from services.approval.domain.pairing import IdFactory
    from services.approval.domain.records import Token, VersionedRecord
    from services.approval.domain.tokens import TokenKeys
    from services.approval.metrics import Metrics
    from services.approval.requests.admission_commit import PendingLimits
    from services.approval.requests.write_limiter import WriteLimiter
    from services.approval.storage.changes.transaction_log import TransactionLog
    from services.approval.storage.store import Snapshot, Store
    from shared.rpc.messages import Answer, AuthorizeDevice, Position
    from shared.rpc.responder import Reply
    from shared.secret_digests import SecretDigests

    Replies = list[Reply | asyncio.Future[Reply]]
    Then = Callable[[Replies | Exception], object]


class _Write(NamedTuple):
    """Work that leads to an answer, and what kind of write it is."""

    kind: WriteKind
    work: Callable[[], Awaitable[Reply]]


class Admissions:
    """Authorizes devices on behalf of gateways."""

    def __init__(
        self,
        *,
        store: Store,
        ledger: TransactionLog,
        keys: TokenKeys,
        digests: SecretDigests,
        draws: IdFactory,
        limits: PendingLimits,
        metrics: Metrics,
        limiter: WriteLimiter,
        rules: RuleBook | None = None,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._digests = digests
        self._limiter = limiter
        self._keys = keys
        self._draws = draws
        self._ttl_ms = limits.ttl_ms
        self._rules = rules or RuleBook(store)
        self._commits = AdmissionCommits(store, ledger, keys, limits)
        self._by_code = SetupAdmissions(
            store=store,
            ledger=ledger,
            commits=self._commits,
            keys=keys,
            digests=digests,
            draws=draws,
            ttl_ms=limits.ttl_ms,
            metrics=metrics,
        )
        self._counts = metrics.questions.counts
        self._log = structlog.get_logger("approval").bind()  # unbound, it is set up for each line

    def handle_batch(self, questions: Sequence[AuthorizeDevice], then: Then) -> None:
        """Answer a batch of requests; `then` gets the replies, None where the outcome is unknown.

        A request that needs a write is answered by a future, so that the others do not wait for
        it, or with BUSY.
        """
        addresses = [limit_key(question.address) for question in questions]
        self._store.read(
            [question.device_id for question in questions],
            list(dict.fromkeys(addresses)),
            partial(self._on_read, questions, addresses, then),
        )

    def _on_read(
        self,
        questions: Sequence[AuthorizeDevice],
        addresses: list[str],
        then: Then,
        found: Snapshot | Exception,
    ) -> None:
        try:
            replies = self._replies(questions, addresses, found)
        except Exception as error:  # noqa: BLE001 (passed on)
            then(error)
        else:
            then(replies)

    def _replies(
        self,
        questions: Sequence[AuthorizeDevice],
        addresses: list[str],
        found: Snapshot | Exception,
    ) -> Replies:
        """Decide each request from what was read."""
        if isinstance(found, StoreUnavailable):
            self._log.warning(log_events.STORE_UNAVAILABLE.name, error=str(found))
            return [None] * len(questions)
        if isinstance(found, Exception):
            raise found
        now_ms = self._store.now_ms()
        replies: Replies = []
        for question, held, address in zip(questions, found.records, addresses, strict=True):
            if 0 < question.not_after_ms < now_ms:
                self._counts["late"] += 1
                replies.append(None)
            elif held.unreadable:
                self._note_unreadable(question)
                replies.append(None)
            else:
                failures = NOTHING_HELD if question.trusted else found.failures[address]
                decided = self._reply(question, found.head, held, failures, now_ms)
                if isinstance(decided, bytes):
                    replies.append(decided)
                else:
                    replies.append(self._limiter.reply(decided.kind, address, decided.work))
        return replies

    def _reply(
        self,
        question: AuthorizeDevice,
        head: Position,
        held: VersionedRecord,
        failures: FailureCounts,
        now_ms: int,
    ) -> bytes | _Write:
        """Return the answer, or what has to be written first."""
        if question.setup_digest:
            work = partial(self._try_code, question, head, held, failures)
            return _Write(WriteKind.SECRET, work)
        decision = self._evaluate(question, held, now_ms)
        wrong_secrets = question.guesses or question.wrong_gateway_token
        if (wrong_secrets and not question.trusted) or failures is not NOTHING_HELD:
            return self._weigh_secrets(question, head, held, failures, now_ms)
        if isinstance(decision, policy.Admit) and decision.changed is None:
            return self._admit(question, decision.token, head)
        if isinstance(decision, policy.Deny) and decision.why == "device-token-mismatch":
            return self._weigh_secrets(question, head, held, failures, now_ms)
        if not self._needs_write(decision):
            return self._encode(question, self._to_answer(question, decision, head))
        return _Write(_kind(decision), partial(self._write, question, head, held))

    def _needs_write(self, decision: policy.Decision) -> bool:
        """Return whether something has to be written before the answer.

        With Redis replicas, this includes the confirmation of a request that waits already. The
        approval replica that filed it may still be waiting for its own, and a failover would forget
        the request whose id the device is told.
        """
        if isinstance(decision, policy.Deny):
            return False
        if decision.changed is not None:
            return True
        return isinstance(decision, policy.Ask) and self._store.has_replicas

    async def _try_code(
        self,
        question: AuthorizeDevice,
        head: Position,
        held: VersionedRecord,
        failures: FailureCounts,
    ) -> Reply:
        """Decide by the setup code; if that is not accepted, by the device's other credential."""
        try:
            answer = await self._by_code.admit(question, head, held, failures)
            if answer is None and (question.method == "token" or question.token_candidate):
                now_ms = self._store.now_ms()
                plain = replace(question, setup_digest="")
                decided = self._reply(plain, head, held, failures, now_ms)
                return decided if isinstance(decided, bytes) else await decided.work()
            if answer is None:
                answer = await self._by_code.refuse(question, head, failures)
            if isinstance(answer, NeedsPairing):
                await self._ledger.confirm()
        except StoreUnavailable as missing:
            self._warn(question, missing)
            return None
        return self._encode(question, answer)

    def _admit(self, question: AuthorizeDevice, token: Token, at: Position) -> bytes:
        """Answer the ordinary request, which needs no write; logs and counts as `_encode` does."""
        self._counts["admitted"] += 1
        self._log.info(
            log_events.QUESTION.name,
            connection=question.call_id,
            device=question.device_id,
            verdict="admitted",
            role=question.role,
            change=at.number,
        )
        return encode(self._admitted(question, token, at))

    def _admitted(self, question: AuthorizeDevice, token: Token, at: Position) -> Admitted:
        self._store.addresses.learn(limit_key(question.address))
        return Admitted(
            at,
            device_token=self._keys.derive(question.device_id, question.role, token.token_id),
            token_scopes=list(token.scopes),
            issued_at_ms=token.issued_at_ms,
            token_generation=token.token_generation,
            method=question.method,
        )

    def _evaluate(
        self,
        question: AuthorizeDevice,
        held: VersionedRecord,
        now_ms: int,
        failed_rules: Collection[str] = (),
    ) -> policy.Decision:
        rules = self._rules
        if not rules.active:
            return policy.authorize(
                held.record,
                question,
                now_ms=now_ms,
                ttl_ms=self._ttl_ms,
                keys=self._keys,
                draws=self._draws,
            )
        return policy.authorize(
            held.record,
            question,
            now_ms=now_ms,
            ttl_ms=self._ttl_ms,
            keys=self._keys,
            draws=self._draws,
            rules=rules.rules_for(question.device_id),
            without_rules=rules.used_up.union(failed_rules),
        )

    def _to_answer(
        self, question: AuthorizeDevice, decision: policy.Decision, at: Position
    ) -> Answer:
        if isinstance(decision, policy.Admit):
            return self._admitted(question, decision.token, at)
        if isinstance(decision, policy.Deny):
            return Denied(at, decision.why)
        pairing = decision.pairing
        return NeedsPairing(
            at,
            reason=decision.reason,
            request_id=decision.pending.request_id,
            approved_roles=list(pairing.roles) if pairing else None,
            approved_scopes=list(pairing.scopes) if pairing else None,
        )

    def _encode(self, question: AuthorizeDevice, answer: Answer) -> bytes:
        """Log and count the decision, under the connection id that the gateway logs; encode it."""
        decision = _decision_name(answer)
        self._counts[decision] += 1
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
        return encode(answer)

    def _weigh_secrets(
        self,
        question: AuthorizeDevice,
        head: Position,
        held: VersionedRecord,
        failures: FailureCounts,
        now_ms: int,
    ) -> bytes | _Write:
        """Decide a question of a client that sent wrong secrets, or whose address has failures.

        Return the answer, or what has to be written first.
        """
        question = without_locked_secret(question, failures, now_ms)
        decision = self._evaluate(question, held, now_ms)
        denied = isinstance(decision, policy.Deny) and decision.why == "device-token-mismatch"
        guessed = guessed_with(question, self._digests, denied=denied)
        counts = failures.counts_for(guessed, now_ms) and not self._store.lockouts.knows(
            limit_key(question.address), guessed
        )
        locked_ms = failures.locked_ms(
            failed_with(question) if denied else succeeded_with(question), now_ms
        )
        if locked_ms or denied:
            refusal = (
                LockedOut(head, locked_ms) if locked_ms else Denied(head, "device-token-mismatch")
            )
            if counts:
                work = partial(self._count_failure, question, guessed, refusal, held)
                return _Write(WriteKind.SECRET, work)
            return self._encode(question, refusal)
        if counts or failures.holds(proven_with(question)):
            counted = guessed if counts else {}
            work = partial(self._settle_secrets, question, head, held, counted)
            return _Write(_kind(decision), work)
        if not self._needs_write(decision):
            return self._encode(question, self._to_answer(question, decision, head))
        return _Write(_kind(decision), partial(self._write, question, head, held))

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
            locked_ms = await self._count_guesses(question, guessed)
        except StoreUnavailable as missing:
            self._warn(question, missing)
            return None
        if locked_ms and isinstance(answer, Denied):
            answer = LockedOut(answer.change, locked_ms)
        return self._encode(question, answer)

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
            if (
                guessed
                and await self._count_guesses(question, guessed)
                and question.method == "token"
            ):
                head, (held,), guards = await self._store.snapshot([question.device_id], [address])
                now_ms = self._store.now_ms()
                decided = self._weigh_secrets(question, head, held, guards[address], now_ms)
                return decided if isinstance(decided, bytes) else await decided.work()
            await self._store.lockouts.clear(
                address, proven_with(question), not_after_ms=question.not_after_ms
            )
        except StoreUnavailable as missing:
            self._warn(question, missing)
            return None
        return await self._write(question, head, held)

    async def _count_guesses(self, question: AuthorizeDevice, guessed: dict[str, list[str]]) -> int:
        return await self._store.lockouts.count(
            limit_key(question.address),
            guessed,
            right_beside=question.method == "token",
            not_after_ms=question.not_after_ms,
        )

    async def _write(
        self, question: AuthorizeDevice, head: Position, held: VersionedRecord
    ) -> Reply:
        """Decide and commit, retrying on conflicts; None if the outcome is unknown."""
        failed_rules: set[str] = set()
        try:
            for _ in range(TRIES_LIMIT):
                now_ms = self._store.now_ms()
                decision = self._evaluate(question, held, now_ms, failed_rules)
                answer = self._to_answer(question, decision, head)
                if isinstance(decision, policy.Deny) or decision.changed is None:
                    if isinstance(decision, policy.Ask):
                        await self._ledger.confirm()
                    return self._encode(question, answer)
                try:
                    committed = await self._commits.commit(question, decision, answer, held, now_ms)
                except RuleFailed as failed:
                    failed_rules |= await self._rules.on_failure(
                        failed.applied, question.device_id, failed.why
                    )
                    continue
                if committed is not None:
                    return self._encode(question, committed)
                head, (held,) = await self._store.load([question.device_id])
                if held.unreadable:
                    return None
        except StoreUnavailable as missing:
            self._warn(question, missing)
        return None

    def _warn(self, question: AuthorizeDevice, missing: StoreUnavailable) -> None:
        if isinstance(missing, TooLate):
            self._counts["late"] += 1
            return
        self._log.warning(
            log_events.STORE_UNAVAILABLE.name, connection=question.call_id, error=str(missing)
        )

    def _note_unreadable(self, question: AuthorizeDevice) -> None:
        """Record a request left unanswered because of an unreadable record."""
        self._counts["unreadable"] += 1
        self._log.error(
            log_events.UNREADABLE.name,
            key=device_key(question.device_id),
            connection=question.call_id,
        )


def _kind(decision: policy.Decision) -> WriteKind:
    """Return the kind of write: what a rule approves is a request, as a newcomer causes it."""
    if isinstance(decision, policy.Admit):
        return WriteKind.REQUEST if decision.rule else WriteKind.ADMISSION
    asks = isinstance(decision, policy.Ask) and decision.changed is not None
    return WriteKind.REQUEST if asks else WriteKind.ADMISSION


def _decision_name(answer: Answer) -> str:
    """Return the name of an answer in log and metrics."""
    if isinstance(answer, Admitted):
        return "admitted"
    if isinstance(answer, NeedsPairing):
        return answer.reason
    if isinstance(answer, Denied):
        return answer.why
    return "locked-out" if isinstance(answer, LockedOut) else "pending-limit"
