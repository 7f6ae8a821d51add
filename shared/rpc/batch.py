"""A batch of questions and its state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from shared.bus.errors import Reason, Unavailable
    from shared.bus.ports import Sent

    Then = Callable[[msgspec.Raw | Unavailable], object]


class OpenQuestion(msgspec.Struct, eq=False):
    """A question without an answer so far; its id is the same for every attempt.

    `size` is that of the body in bytes. `then` gets the answer, or Unavailable. `asker` is the
    future of an asker that may leave.
    """

    id: int
    body: msgspec.Raw
    size: int
    then: Then
    batch: Batch | None = None
    asker: asyncio.Future[msgspec.Raw] | None = None


class Batch(msgspec.Struct, eq=False):
    """Questions that are sent together to one responder after another until their deadline.

    Answers are accepted from responders in `asked`. Those in `excluded` are not chosen next, those
    in `busy` never again. `attempt` increases with each step and identifies results of earlier
    attempts. `hopeful`: a responder that was asked may still answer. `reason`: why there is no
    answer so far; None as long as only Redis has failed. `deadline` is in seconds of the
    requester's clock. `due_at` is when the attempt or the pause ends, in seconds of the event loop;
    None if neither is under way. `left` is the number of questions that are still open.
    """

    questions: list[OpenQuestion]
    deadline: float
    left: int
    asked: list[str] = []
    busy: set[str] = set()
    excluded: set[str] = set()
    attempt: int = 0
    responder: str | None = None
    sent: Sent | None = None
    """The message of the attempt, until Redis has confirmed it."""
    due_at: float | None = None
    hopeful: bool = False
    repeated: bool = False
    redis_failures: int = 0
    reason: Reason | None = None

    def split(self, questions: list[OpenQuestion]) -> Batch:
        """Move some of the questions to a batch of their own with the same history."""
        part = Batch(
            questions,
            self.deadline,
            len(questions),
            asked=list(self.asked),
            busy=set(self.busy),
            excluded=set(self.excluded),
            hopeful=self.hopeful,
            repeated=self.repeated,
            redis_failures=self.redis_failures,
            reason=self.reason,
        )
        for question in questions:
            question.batch = part
        self.left -= len(questions)
        return part

    def open_questions(self) -> list[OpenQuestion]:
        """Return the questions that are still open."""
        return [question for question in self.questions if question.batch is self]

    def step(self) -> None:
        """End the current attempt, and invalidate its pending results."""
        self.attempt += 1
        self.sent = self.due_at = None
