"""The real parts of a gateway, which also tell the oracle what they ask and hear."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.gateway.approvals import BusApprovals
from services.gateway.beat import Beat
from shared.messages import Admission, Admitted

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.gateway.beat import Effect
    from shared.messages import Answer, BeatAnswer, Changed, Knock
    from tests.simulation.oracle import Oracle


class WatchedBeat(Beat):
    """The real beat; `told` hears of every change that it takes."""

    told: Callable[[Changed], None]

    def on_news(self, news: Changed) -> list[Effect]:
        """Take news."""
        if self.booted:
            self.told(news)
        return super().on_news(news)

    def on_answer(self, answer: BeatAnswer) -> list[Effect]:
        """Take an answer; what it brings counts as heard where it was applied."""
        before = self.applied.number
        effects = super().on_answer(answer)
        for change in answer.changes:
            if before < change.change.number <= self.applied.number:
                self.told(change)
        return effects


class WatchedApprovals(BusApprovals):
    """The real way to approval; `current` is the answer that was found to count last."""

    oracle: Oracle

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.current: tuple[Admitted, str] | None = None
        self._calls: dict[int, str] = {}

    async def ask(self, question: Admission | Knock) -> Answer:
        """Ask."""
        self.oracle.asked(question.call_id)
        answer = await super().ask(question)
        if isinstance(answer, Admitted):
            self._calls[id(answer)] = question.call_id
        return answer

    def require_current(self, answer: Answer | None, device_id: str) -> None:
        """Check."""
        self.current = None
        super().require_current(answer, device_id)
        self.note(answer)

    def note(self, answer: Answer | None) -> None:
        """Take notice of an answer by which somebody comes in."""
        if isinstance(answer, Admitted):
            self.current = answer, self._calls.pop(id(answer), "")
