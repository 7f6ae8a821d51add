"""Dispatches requests from gateways: authorizations in batches, all others one by one."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import structlog

from services.approval import log_events
from services.approval.domain.errors import StoreUnavailable, TooLate
from services.approval.requests.write_limiter import WriteKind
from shared.addresses.client import limit_key
from shared.rpc.messages import (
    AuthorizeDevice,
    Call,
    HeartbeatAnswer,
    HeartbeatQuestion,
    Leaving,
    Position,
    ReportSecret,
    SecretAccepted,
    TokenCheck,
    decode_question,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.approval.metrics import Metrics
    from services.approval.requests.admission import Admissions
    from services.approval.requests.methods import Methods
    from services.approval.requests.secrets import SecretChecks
    from services.approval.requests.write_limiter import WriteLimiter
    from services.approval.storage.store import Store
    from shared.rpc.messages import Question as AnyQuestion
    from shared.rpc.reports import RefusalReport
    from shared.rpc.responder import Question, Reply

    Replies = list[Reply | asyncio.Future[Reply]]
    Then = Callable[[Replies | Exception], object]


class RequestDispatcher:
    """Answers the requests of one message; heartbeats never wait for the write limiter."""

    def __init__(
        self,
        *,
        admissions: Admissions,
        secrets: SecretChecks,
        methods: Methods,
        store: Store,
        metrics: Metrics,
        limiter: WriteLimiter,
    ) -> None:
        self._limiter = limiter
        self._admissions = admissions
        self._secrets = secrets
        self._methods = methods
        self._store = store
        self._metrics = metrics
        self._log = structlog.get_logger("approval")

    def dispatch(self, questions: Sequence[Question], then: Then) -> None:
        """Answer the requests of a message; `then` gets the replies, None for unknown outcomes.

        It gets an error if answering failed. It may be called before this returns.
        """
        decoded = [self._decode(question) for question in questions]
        admissions = [one for one in decoded if isinstance(one, AuthorizeDevice)]
        if len(admissions) == len(decoded):
            self._admissions.handle_batch(admissions, then)
        else:
            self._dispatch_all(questions, decoded, admissions, then)

    def _dispatch_all(
        self,
        questions: Sequence[Question],
        decoded: Sequence[AnyQuestion | None],
        admissions: Sequence[AuthorizeDevice],
        then: Then,
    ) -> None:
        """Answer requests of all kinds.

        Those past their deadline are dropped before any work: nobody waits for their answers, and
        what they would write would take room from requests that are still open.
        """
        now_ms = self._store.now_ms()
        replies: Replies = [None] * len(questions)
        for place, one in enumerate(decoded):
            sender = questions[place].sender
            if isinstance(one, HeartbeatQuestion | Leaving):
                replies[place] = asyncio.ensure_future(self._answer(sender, one))
            elif one is None or isinstance(one, AuthorizeDevice):
                continue
            elif 0 < one.not_after_ms < now_ms:
                self._metrics.questions.counts["late"] += 1
            else:
                kind, client = _share(one)
                replies[place] = self._limiter.reply(
                    kind, client, partial(self._answer, sender, one)
                )

        def fill_in(answers: Replies | Exception) -> None:
            if isinstance(answers, Exception):
                then(answers)
                return
            left = iter(answers)
            for place, one in enumerate(decoded):
                if isinstance(one, AuthorizeDevice):
                    replies[place] = next(left)
            then(replies)

        if admissions:
            self._admissions.handle_batch(admissions, fill_in)
        else:
            then(replies)

    def _decode(self, question: Question) -> AnyQuestion | None:
        try:
            decoded: AnyQuestion = decode_question(question.body)
        except (msgspec.MsgspecError, RecursionError):
            self._metrics.questions.counts["malformed"] += 1
            return None
        return decoded

    async def _answer(
        self, gateway: str, one: HeartbeatQuestion | ReportSecret | Call | Leaving | TokenCheck
    ) -> Reply:
        try:
            if isinstance(one, Call):
                return await self._methods.answered(one)
            if isinstance(one, ReportSecret):
                return await self._secrets.report(one)
            if isinstance(one, TokenCheck):
                return await self._secrets.check(one)
            if isinstance(one, Leaving):
                await self._store.presence.withdraw(gateway)
                return encode(SecretAccepted(Position()))
            answer = await self._store.heartbeats.answer(gateway, one)
            if one.addresses_after_ms >= 0:
                answer = await self._with_addresses(answer, one.addresses_after_ms)
            if one.refused:
                await self._note_refused(gateway, one.refused, answer.now_ms)
        except StoreUnavailable as missing:
            if isinstance(missing, TooLate):
                self._metrics.questions.counts["late"] += 1
            else:
                self._log.warning(log_events.STORE_UNAVAILABLE.name, error=str(missing))
            return None
        self._metrics.heartbeats.inc()
        return encode(answer)

    async def _with_addresses(self, answer: HeartbeatAnswer, after_ms: int) -> HeartbeatAnswer:
        """Add addresses for a gateway that relays; without them the answer is as good."""
        book = self._store.addresses
        book.note_relaying()
        try:
            keys, at_ms = await book.after(after_ms, answer.now_ms)
        except StoreUnavailable as missing:
            self._log.warning(log_events.STORE_UNAVAILABLE.name, error=str(missing))
            return answer
        return msgspec.structs.replace(answer, addresses=keys, addresses_at_ms=at_ms)

    async def _note_refused(self, gateway: str, reports: list[RefusalReport], now_ms: int) -> None:
        """Store the refusals reported by a heartbeat; failure does not affect its answer."""
        try:
            await self._store.refusals.write(gateway, reports, now_ms)
        except StoreUnavailable as missing:
            self._log.warning(log_events.STORE_UNAVAILABLE.name, error=str(missing))


def _share(one: ReportSecret | Call | TokenCheck) -> tuple[WriteKind, str]:
    """Return the kind of a request's writes, and the client whose share they use."""
    if isinstance(one, Call):
        return WriteKind.CALL, one.caller.name
    return WriteKind.SECRET, limit_key(one.address)
