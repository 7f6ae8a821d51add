"""Limits the open questions about admissions to what approval answers quickly. Pure.

The limit, the window, grows while answers are quick, and is halved when they are slow or missing.
While it is full, handshakes wait: a question that approval cannot answer in time would only take
the place of one that it can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW_MIN_QUESTIONS: Final = 4
WINDOW_MAX_QUESTIONS: Final = 768
"""Less than the limit of the Requester: calls and token checks always find room."""
GROWTH_QUESTIONS: Final = 16
"""By how much the window grows while as many questions as fit into it are answered."""
SLOW_SECONDS: Final = 0.25
"""Answers that take longer shrink the window: half of the time after which a question is repeated.

Not while others are quicker: then approval has time, and only what these questions write is slow.
"""


class QuestionWindow:
    """The open questions and their limit; `hold` and `release` tell when it is full or not."""

    def __init__(
        self,
        hold: Callable[[], object] = lambda: None,
        release: Callable[[], object] = lambda: None,
    ) -> None:
        self._hold = hold
        self._release = release
        self._size = float(WINDOW_MAX_QUESTIONS)
        self._shrunk_at = float("-inf")
        self._quick_at = float("-inf")
        """When the last quick answer came."""
        self.open = 0
        """The number of open questions."""
        self._is_full = False

    @property
    def size(self) -> int:
        """How many questions may be open before handshakes wait."""
        return int(self._size)

    def asked(self) -> None:
        """Note that a question was asked."""
        self.open += 1
        if self.open >= self._size and not self._is_full:
            self._is_full = True
            self._hold()

    def ended(self, asked_at: float, now: float, *, answered: bool) -> None:
        """Note that a question was answered or failed.

        Times are in seconds of one clock. Of all questions asked before the window was halved,
        none halves it again.
        """
        if answered and now - asked_at <= SLOW_SECONDS:
            self._quick_at = now
            self._size = min(WINDOW_MAX_QUESTIONS, self._size + GROWTH_QUESTIONS / self._size)
        elif asked_at > self._shrunk_at and now - self._quick_at > SLOW_SECONDS:
            self._size = max(WINDOW_MIN_QUESTIONS, min(self._size, self.open) / 2)
            self._shrunk_at = now
        self.open -= 1
        if self._is_full and self.open < self._size:
            self._is_full = False
            self._release()
