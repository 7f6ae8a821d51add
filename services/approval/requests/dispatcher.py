"""Dispatches requests from gateways: authorizations in batches, all others individually."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import structlog

from services.approval import log_events
from services.approval.domain.errors import StoreUnavailable, TooLate
from services.approval.domain.lockout import guessed_without_device
from shared.addresses import limit_key
from shared.rpc.messages import (
    Answer,
    AuthorizeDevice,
    BeatAnswer,
    BeatQuestion,
    Call,
    Leaving,
    LockedOut,
    Position,
    ReportSecret,
    SecretAccepted,
    TokenCheck,
    decode_question,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.approval.metrics import Metrics
    from services.approval.requests.admission import Admissions
    from services.approval.requests.methods import Methods
    from services.approval.requests.write_limiter import WriteLimiter
    from services.approval.storage.store import Store
    from shared.rpc.messages import Question as AnyQuestion
    from shared.rpc.messages import RefusalReport
    from shared.rpc.responder import Question, Reply


class RequestDispatcher:
    """Answers the requests of one message; heartbeats never wait for the write limiter."""

    def __init__(
        self,
        admissions: Admissions,
        methods: Methods,
        store: Store,
        metrics: Metrics,
        places: WriteLimiter,
    ) -> None:
        self._places = places
        self._admissions = admissions
        self._methods = methods
        self._store = store
        self._metrics = metrics
        self._log = structlog.get_logger("approval")

    async def dispatch(self, questions: Sequence[Question]) -> list[Reply | asyncio.Future[Reply]]:
        """Answer the requests of a message; None where the outcome is unknown.

        Requests past their deadline are dropped before any work: nobody waits for their answers,
        and what they would write would take room from requests that are still open.
        """
        now_ms = self._store.now_ms()
        replies: list[Reply | asyncio.Future[Reply]] = [None] * len(questions)
        admissions: dict[int, AuthorizeDevice] = {}
        for place, question in enumerate(questions):
            one = self._decode(question)
            if isinstance(one, BeatQuestion | Leaving):
                replies[place] = asyncio.ensure_future(self._answer(question.sender, one))
            elif one is None:
                pass
            elif 0 < one.not_after_ms < now_ms:
                self._metrics.questions.labels("late").inc()
            elif isinstance(one, AuthorizeDevice):
                admissions[place] = one
            else:
                replies[place] = self._places.reply(partial(self._answer, question.sender, one))
        if admissions:
            answers = await self._admissions.handle_batch(list(admissions.values()))
            for place, reply in zip(admissions, answers, strict=True):
                replies[place] = reply
        return replies

    def _decode(self, question: Question) -> AnyQuestion | None:
        try:
            decoded: AnyQuestion = decode_question(question.body)
        except (msgspec.MsgspecError, RecursionError):
            self._metrics.questions.labels("malformed").inc()
            return None
        return decoded

    async def _answer(
        self, gateway: str, one: BeatQuestion | ReportSecret | Call | Leaving | TokenCheck
    ) -> Reply:
        try:
            if isinstance(one, Call):
                return await self._methods.answered(one)
            if isinstance(one, ReportSecret):
                return encode(await self._count_secret(one))
            if isinstance(one, TokenCheck):
                return await self._admissions.token_checks.answered(one)
            if isinstance(one, Leaving):
                await self._store.presence.withdraw(gateway)
                return encode(SecretAccepted(Position()))
            answer = await self._store.beat(gateway, one)
            if one.addresses_after_ms >= 0:
                answer = await self._with_addresses(answer, one.addresses_after_ms)
            if one.refused:
                await self._note_refused(gateway, one.refused, answer.now_ms)
        except StoreUnavailable as missing:
            if isinstance(missing, TooLate):
                self._metrics.questions.labels("late").inc()
            else:
                self._log.warning(log_events.STORE_UNAVAILABLE.name, error=str(missing))
            return None
        self._metrics.beats.inc()
        return encode(answer)

    async def _with_addresses(self, answer: BeatAnswer, after_ms: int) -> BeatAnswer:
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

    async def _count_secret(self, report: ReportSecret) -> Answer:
        """Count wrong secrets or clear failures after a correct one; answer if locked out."""
        address = limit_key(report.address)
        head, _held, guards = await self._store.load_guarded([], [address])
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
        self._metrics.questions.labels(decision).inc()
        self._log.info(
            log_events.QUESTION.name,
            connection=report.call_id,
            device="",
            verdict=decision,
            change=head.number,
        )
        return LockedOut(head, locked_ms) if locked_ms else SecretAccepted(head)
