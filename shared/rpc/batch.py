"""What the requester keeps about questions that are under way. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    import msgspec

    from shared.bus.errors import Reason


class OpenQuestion:
    """One question that waits for its answer, at every try under the same id."""

    __slots__ = ("batch", "body", "future", "id", "size")

    def __init__(
        self, number: int, body: msgspec.Raw, size: int, future: asyncio.Future[msgspec.Raw]
    ) -> None:
        """Belong to no batch yet; `size` is the body's, in bytes."""
        self.id = number
        self.body = body
        self.size = size
        self.future = future
        self.batch: Batch | None = None


class Batch:
    """Questions that travel together from responder to responder until their deadline.

    `asked`: whose answers count. `excluded`: whom not to choose next; `busy`: whom never again.
    `attempt` rises with each step, so that what belongs to an earlier one is told apart. `hopeful`:
    a responder that was asked may still answer. `reason`: why there is no answer so far, None as
    long as nothing but Redis stood in the way.
    """

    __slots__ = (
        "asked",
        "attempt",
        "busy",
        "deadline",
        "excluded",
        "hopeful",
        "left",
        "publishing",
        "questions",
        "reason",
        "redis_failures",
        "repeated",
        "responder",
        "timer",
    )

    def __init__(self, questions: list[OpenQuestion], deadline: float) -> None:
        """Take the questions over; `deadline` is in seconds of the requester's clock."""
        self.questions = questions
        self.deadline = deadline
        self.left = len(questions)
        self.asked: list[str] = []
        self.busy: set[str] = set()
        self.excluded: set[str] = set()
        self.attempt = 0
        self.responder: str | None = None
        self.publishing: asyncio.Future[int] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.hopeful = False
        self.repeated = False
        self.redis_failures = 0
        self.reason: Reason | None = None
        for question in questions:
            question.batch = self

    def split(self, questions: list[OpenQuestion]) -> Batch:
        """Give some of the questions a batch of their own, with the same past."""
        part = Batch(questions, self.deadline)
        part.asked = list(self.asked)
        part.busy = set(self.busy)
        part.excluded = set(self.excluded)
        part.hopeful = self.hopeful
        part.repeated = self.repeated
        part.redis_failures = self.redis_failures
        part.reason = self.reason
        self.left -= len(questions)
        return part

    def open_questions(self) -> list[OpenQuestion]:
        """Those of its questions that still wait."""
        return [q for q in self.questions if q.batch is self]

    def step(self) -> None:
        """End the present attempt: its timer, and whatever still comes of it."""
        self.attempt += 1
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
