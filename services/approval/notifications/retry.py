"""When a failed delivery is tried again, and when it is given up. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DAY_MS: Final = 86_400_000

UNACCEPTABLE: Final = frozenset({400, 413, 422})
"""Statuses by which a receiver rejects this message rather than every message."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Bounds of retries. Each delay is drawn from the upper half of what is stated."""

    first_ms: int = 5_000
    """Longest delay before the second attempt; it doubles with each further one."""
    most_ms: int = 300_000
    """Longest delay between two attempts, also if the receiver asks for more."""
    give_up_ms: int = 3 * DAY_MS
    """A notification is given up this long after the event."""
    unacceptable_attempts: int = 5
    """A notification that the receiver rejects with 400, 413 or 422 is given up after these."""

    def delay_ms(self, attempts: int, chance: float, asked_ms: int = 0) -> int:
        """Return the delay after so many failed attempts.

        `chance` is from 0 to 1; `asked_ms` is what the receiver asked for (`Retry-After`).
        """
        limit = min(self.most_ms, self.first_ms * 2 ** min(attempts - 1, 30))
        drawn = int(limit * (0.5 + chance / 2))
        return max(drawn, min(asked_ms, self.most_ms))

    def gives_up(self, *, age_ms: int, attempts: int, status: int) -> bool:
        """Return whether a notification is not tried again."""
        rejected = status in UNACCEPTABLE and attempts >= self.unacceptable_attempts
        return rejected or age_ms >= self.give_up_ms
