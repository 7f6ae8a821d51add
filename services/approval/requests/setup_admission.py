"""Admits devices by setup codes: one commit changes the code and what it causes.

Two devices that present one code at two replicas both read it as unbound. The commit of one of them
fails, and it then reads that the code is the other's.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

from services.approval.domain import policy
from services.approval.domain.errors import StoreUnavailable, TooLate, UnreadableRecord
from services.approval.domain.lockout import attempt_of
from services.approval.domain.records import SUPERSEDED, AuditEntry
from services.approval.domain.setup_admission import (
    BOOTSTRAP,
    NEW,
    UPGRADED,
    Redeem,
    admit_by_code,
    repeated,
)
from services.approval.domain.setup_codes import refusal_of
from services.approval.requests.admission_commit import with_tokens
from services.approval.storage.changes.transaction import Transaction, address_source
from services.approval.storage.keys import call_key, device_key
from services.approval.storage.setup_codes import (
    BOUND,
    REDEEMED,
    REFUSED,
    actor_of,
    change_of,
    put_code,
)
from shared.addresses.client import limit_key
from shared.rpc.messages import (
    BOOTSTRAP_TOKEN,
    EVERY_ROLE,
    SHARED_SECRET,
    Admitted,
    Changed,
    Denied,
    ExtraToken,
    LockedOut,
    NeedsPairing,
    Position,
    decode_answer,
    encode,
)
from shared.setup_tokens import setup_id_of

if TYPE_CHECKING:
    from services.approval.domain.lockout import FailureCounts
    from services.approval.domain.pairing import IdFactory
    from services.approval.domain.records import Token, VersionedRecord
    from services.approval.domain.setup_admission import Present, SetupDecision
    from services.approval.domain.setup_codes import SetupCode, VersionedCode
    from services.approval.domain.tokens import TokenKeys
    from services.approval.metrics import Metrics
    from services.approval.requests.admission_commit import AdmissionCommits
    from services.approval.storage.changes.transaction_log import TransactionLog
    from services.approval.storage.store import Store
    from shared.rpc.messages import Answer, AuthorizeDevice
    from shared.secret_digests import SecretDigests

TRIES_LIMIT: Final = 8
"""Max. attempts at a commit that conflicts with others."""
INVALID: Final = "setup-code-invalid"
"""Why a device is denied; the same for every reason, so that a client learns nothing."""


class _Attempt(NamedTuple):
    """A question, and what was read to decide it."""

    question: AuthorizeDevice
    head: Position
    held: VersionedRecord
    failures: FailureCounts
    found: VersionedCode
    now_ms: int

    @property
    def not_after_ms(self) -> int:
        """After this, nothing is written: the deadline of the question, or the code's expiry."""
        asked_ms = self.question.not_after_ms
        expires_ms = self.found.code.expires_at_ms if self.found.code else asked_ms
        return min(asked_ms or expires_ms, expires_ms)


class _Changed:
    """What was read has changed, so the decision has to be made again."""


_CHANGED: Final = _Changed()


class SetupAdmissions:
    """Decides on devices that present a setup code. Every method may raise StoreUnavailable."""

    def __init__(
        self,
        *,
        store: Store,
        ledger: TransactionLog,
        commits: AdmissionCommits,
        keys: TokenKeys,
        digests: SecretDigests,
        draws: IdFactory,
        ttl_ms: int,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._commits = commits
        self._keys = keys
        self._digests = digests
        self._draws = draws
        self._ttl_ms = ttl_ms
        self._uses = metrics.setup_codes

    async def admit(
        self,
        question: AuthorizeDevice,
        head: Position,
        held: VersionedRecord,
        failures: FailureCounts,
    ) -> Answer | None:
        """Return the answer if the code is accepted; None if it is not, or is not looked at."""
        if not question.trusted and failures.locked_ms([BOOTSTRAP_TOKEN], self._store.now_ms()):
            return None
        setup_id = setup_id_of(question.setup_digest)
        for _ in range(TRIES_LIMIT):
            found = await self._store.setup_codes.one(setup_id)
            answer = await self._try(
                _Attempt(question, head, held, failures, found, self._store.now_ms())
            )
            if answer is None or not isinstance(answer, _Changed):
                return answer
            head, (held,) = await self._store.load([question.device_id])
            if held.unreadable:
                raise UnreadableRecord(device_key(question.device_id))
        message = "the setup code kept changing concurrently"
        raise StoreUnavailable(message)

    async def _try(self, one: _Attempt) -> Answer | _Changed | None:
        """Decide and commit once; None if the code is not accepted."""
        decision = self._decide(one)
        if decision is None:
            return None
        if isinstance(decision, Admitted):
            return self._with_tokens(replace(decision, change=one.head), one.question)
        if isinstance(decision, policy.Deny):
            return Denied(one.head, decision.why)
        try:
            answer = await self._commit(one, decision)
        except TooLate:
            if one.found.code and self._store.now_ms() < one.found.code.expires_at_ms:
                raise
            answer = None  # the code has just expired
        if answer is None:
            return _CHANGED
        await self._settle(one.question, one.failures)
        self._count(answer, one.question)
        return answer

    def _decide(self, one: _Attempt) -> SetupDecision | Admitted | None:
        """Return the decision; Admitted, with token ids, where it was made and written before."""
        question, held, code = one.question, one.held, one.found.code
        attempt = attempt_of(question)
        if code is None or code.digest != question.setup_digest:
            return None
        if code.used_at_ms:
            tokens = repeated(code, held.record, question, attempt)
            return _admitted(*tokens, code) if tokens else None
        if refusal_of(code, question, one.now_ms):
            return None
        return admit_by_code(
            code,
            held.record,
            question,
            attempt=attempt,
            now_ms=one.now_ms,
            ttl_ms=self._ttl_ms,
            keys=self._keys,
            draws=self._draws,
        )

    async def refuse(
        self, question: AuthorizeDevice, head: Position, failures: FailureCounts
    ) -> Answer:
        """Return the refusal of a device whose only credential is a code that is not accepted.

        A new wrong value is counted and noted in the audit log; a repeated one is neither.
        """
        now_ms = self._store.now_ms()
        denied = Denied(head, INVALID)
        if question.trusted:
            return denied
        address = limit_key(question.address)
        guessed = {SHARED_SECRET: question.guesses} if question.guesses else {}
        guessed[BOOTSTRAP_TOKEN] = [self._digests.of(question.setup_digest)]
        locked_ms = failures.locked_ms([*guessed], now_ms)
        if failures.counts_for(guessed, now_ms) and not self._store.lockouts.knows(
            address, guessed
        ):
            await self._note_refused(question, now_ms)
            locked_ms = await self._store.lockouts.count(
                address, guessed, right_beside=False, not_after_ms=question.not_after_ms
            )
        self._uses.labels("locked-out" if locked_ms else "refused").inc()
        return LockedOut(head, locked_ms) if locked_ms else denied

    async def _settle(self, question: AuthorizeDevice, failures: FailureCounts) -> None:
        """Clear the failures of codes, and count wrong gateway tokens beside the right code."""
        if question.trusted:
            return
        address, lockouts = limit_key(question.address), self._store.lockouts
        wrong = {SHARED_SECRET: question.guesses}
        if question.guesses and not lockouts.knows(address, wrong):
            await lockouts.count(address, wrong, right_beside=True)
        if failures.holds([BOOTSTRAP_TOKEN]):
            await lockouts.clear(address, [BOOTSTRAP_TOKEN])

    async def _commit(self, one: _Attempt, decision: Redeem | Present) -> Answer | None:
        """Commit a decision and return the answer; None if it has to be made again."""
        held, now_ms = one.held, one.now_ms
        question = replace(one.question, not_after_ms=one.not_after_ms)
        if isinstance(decision, Redeem):
            entry = Transaction(actor_of(decision.code.setup_id), now_ms)
            self._add_approval(entry, decision, question, held)
            _add_code(entry, one, decision.code, decision.how)
            redeemed = _admitted(decision.token, decision.more, decision.code)
            return await self._run(entry, one, redeemed)
        also = partial(_add_code, one=one, after=decision.code, how=NEW)
        ordinary = decision.decision
        kept = self._kept(ordinary, decision.code)
        if ordinary.changed is not None:
            answer = replace(self._with_tokens(kept, question), change=one.head)
            return await self._commits.commit(question, ordinary, answer, held, now_ms, also=also)
        if decision.code == one.found.code:  # a retry while the request waits
            return replace(kept, change=one.head)
        entry = Transaction(f"device {question.device_id}", now_ms)
        entry.require(question.device_id, held.version)
        also(entry)
        return await self._run(entry, one, kept)

    def _kept(
        self, ordinary: policy.Admit | policy.Ask, code: SetupCode
    ) -> Admitted | NeedsPairing:
        """Return the answer to a decision by the ordinary rules, with token ids."""
        if isinstance(ordinary, policy.Admit):
            return _admitted(ordinary.token, {}, code)
        known = ordinary.pairing
        return NeedsPairing(
            Position(),
            reason=ordinary.reason,
            request_id=ordinary.pending.request_id,
            approved_roles=list(known.roles) if known else None,
            approved_scopes=list(known.scopes) if known else None,
            by_setup_code=True,
        )

    def _add_approval(
        self,
        entry: Transaction,
        decision: Redeem,
        question: AuthorizeDevice,
        held: VersionedRecord,
    ) -> None:
        """Add the approval by a code, which ends an earlier request of the device."""
        device_id = question.device_id
        if decision.approved is None:
            entry.require(device_id, held.version)
            return
        entry.replace(held, decision.changed, device_id)
        before = decision.superseded
        if before is not None:
            entry.end_request(device_id, before, SUPERSEDED, decision.approved.request_id)
        entry.change(
            "approved",
            device_id,
            pending=decision.approved,
            superseded=before.request_id if before else "",
            closes=[EVERY_ROLE] if decision.how == UPGRADED else [],
            source=address_source(decision.approved.limit_key),
        )

    async def _run(
        self, entry: Transaction, one: _Attempt, kept: Admitted | NeedsPairing
    ) -> Answer | None:
        """Commit once per call; what is kept for retries has token ids, not tokens."""
        question, plan = one.question, entry.plan
        plan.not_after_ms = one.not_after_ms
        plan.once(call_key(question.call_id), encode(kept))
        committed = await self._ledger.commit(entry)
        if committed.outcome not in {"done", "seen"}:
            return None
        answer: Answer = decode_answer(committed.answer) if committed.answer else kept
        return replace(self._with_tokens(answer, question), change=committed.change)

    def _with_tokens(self, answer: Answer, question: AuthorizeDevice) -> Answer:
        """Return an answer that has token ids with the tokens in their place."""
        if isinstance(answer, Admitted):
            return with_tokens(answer, question, self._keys)
        return answer

    def _count(self, answer: Answer, question: AuthorizeDevice) -> None:
        """Count what became of an attempt."""
        if isinstance(answer, Admitted):
            self._store.addresses.learn(limit_key(question.address))
            self._uses.labels("redeemed" if answer.setup_id else "admitted").inc()
        elif isinstance(answer, NeedsPairing):
            self._uses.labels("pairing-required").inc()

    async def _note_refused(self, question: AuthorizeDevice, now_ms: int) -> None:
        """Note in the audit log which code was refused, and why; clients are not told."""
        setup_id = setup_id_of(question.setup_digest)
        code = (await self._store.setup_codes.one(setup_id)).code
        reason = refusal_of(code, question, now_ms) or "used"
        entry = Transaction(f"device {question.device_id}", now_ms)
        entry.plan.not_after_ms = question.not_after_ms
        known = code is not None and reason != "unknown"
        entry.plan.change(
            Changed(Position(), "", device_id="", kind=REFUSED, at_ms=now_ms),
            AuditEntry(
                action=REFUSED,
                device_id=question.device_id,
                actor=f"device {question.device_id}",
                at_ms=now_ms,
                role=question.role,
                address=question.address,
                setup_id=setup_id if known else "",
                reason=reason,
            ),
            address_source(limit_key(question.address)),
        )
        await self._ledger.commit(entry)


def _admitted(token: Token, more: dict[str, Token], code: SetupCode) -> Admitted:
    """Return the answer to an admission, with token ids in place of tokens."""
    return Admitted(
        Position(),
        device_token=token.token_id,
        token_scopes=list(token.scopes),
        issued_at_ms=token.issued_at_ms,
        token_generation=token.token_generation,
        method=BOOTSTRAP,
        more_tokens=[
            ExtraToken(role, one.token_id, sorted(one.scopes), one.issued_at_ms)
            for role, one in more.items()
        ],
        setup_id=code.setup_id if code.used_at_ms else "",
    )


def _add_code(entry: Transaction, one: _Attempt, after: SetupCode, how: str) -> None:
    """Add the code's own change, and what the audit log says of it."""
    put_code(entry.plan, one.found, after, entry.now_ms)
    address, actor = one.question.address, f"device {one.question.device_id}"
    if one.found.code is not None and not one.found.code.device_id:
        entry.plan.note(*change_of(BOUND, after, actor, entry.now_ms, address=address))
    if after.used_at_ms:
        actor = actor_of(after.setup_id)
        entry.plan.note(
            *change_of(REDEEMED, after, actor, entry.now_ms, address=address, reason=how)
        )
