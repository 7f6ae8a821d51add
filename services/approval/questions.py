"""What gateways ask, sorted: admissions are judged together, each beat is answered by itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import structlog

from services.approval import log_events
from services.approval.errors import StoreUnavailable
from shared.messages import Admission, BeatQuestion, decode_question, encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.approval.admissions import Admissions
    from services.approval.metrics import Metrics
    from services.approval.store import Store
    from shared.bus.responder import Question, Reply


class Questions:
    """Answers one message of questions at a time."""

    def __init__(self, admissions: Admissions, store: Store, metrics: Metrics) -> None:
        self._admissions = admissions
        self._store = store
        self._metrics = metrics
        self._log = structlog.get_logger("approval")

    async def handle(self, questions: Sequence[Question]) -> list[Reply | asyncio.Future[Reply]]:
        """Answer a message; a reply is None where the outcome is not known."""
        asked = [(question.sender, self._decoded(question)) for question in questions]
        beats = {
            place: asyncio.ensure_future(self._beaten(sender, one))
            for place, (sender, one) in enumerate(asked)
            if isinstance(one, BeatQuestion)
        }
        admissions = [one for _sender, one in asked if isinstance(one, Admission)]
        replies = iter(await self._admissions.replies(admissions) if admissions else ())
        return [
            next(replies) if isinstance(one, Admission) else beats.get(place)
            for place, (_sender, one) in enumerate(asked)
        ]

    def _decoded(self, question: Question) -> Admission | BeatQuestion | None:
        try:
            decoded: Admission | BeatQuestion = decode_question(question.body)
        except (msgspec.MsgspecError, RecursionError):
            self._metrics.questions.labels("malformed").inc()
            return None
        return decoded

    async def _beaten(self, gateway: str, beat: BeatQuestion) -> Reply:
        try:
            answer = await self._store.beat(gateway, beat)
        except StoreUnavailable as missing:
            self._log.warning(log_events.STORE_UNAVAILABLE.name, error=str(missing))
            return None
        self._metrics.beats.inc()
        return encode(answer)
