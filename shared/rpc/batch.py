"""State of the requester's open questions. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    import msgspec

    from shared.bus.errors import Reason


class OpenQuestion:
    """A question without an answer so far; its id is the same for every attempt."""

    __slots__ = ("batch", "body", "future", "id", "size")

    def __init__(
        self, number: int, body: msgspec.Raw, size: int, future: asyncio.Future[msgspec.Raw]
    ) -> None:
        """Create a question outside of any batch; `size` is that of the body in bytes."""
        self.id = number
        self.body = body
        self.size = size
        self.future = future
        self.batch: Batch | None = None


class Batch:
    """Questions that are sent together to one responder after another until their deadline.

    Answers are accepted from responders in `asked`. Those in `excluded` are not chosen next, those
    in `busy` never again. `attempt` increases with each step and identifies results of earlier
    attempts. `hopeful`: a responder that was asked may still answer. `reason`: why there is no
    answer so far; None as long as only Redis has failed.
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
        """Take over the questions; `deadline` is in seconds of the requester's clock."""
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
        """Move some of the questions to a batch of their own with the same history."""
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
        """Return the questions that are still open."""
        return [q for q in self.questions if q.batch is self]

    def step(self) -> None:
        """End the current attempt, cancel its timer and invalidate its pending results."""
        self.attempt += 1
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
