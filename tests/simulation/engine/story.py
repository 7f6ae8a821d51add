"""A readable account of a run: time, participant and event."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Violation(Exception):
    """A violated invariant. `invariant`: I1 to I6, progress, or error."""

    def __init__(self, invariant: str, text: str) -> None:
        super().__init__(invariant, text)
        self.invariant = invariant
        self.text = text

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}"


class Story:
    """Lines of time, participant and event. `wanted`: False records none, for speed."""

    def __init__(self, now: Callable[[], float], *, wanted: bool) -> None:
        self._now = now
        self._wanted = wanted
        self._lines: list[str] = []

    @property
    def wanted(self) -> bool:
        """Whether lines are recorded."""
        return self._wanted

    def tell(self, who: str, description: str) -> None:
        """Add a line."""
        if self._wanted:
            self._lines.append(f"{self._now():9.3f} s  {who:<12} {description}")

    def __str__(self) -> str:
        return "\n".join(self._lines)
