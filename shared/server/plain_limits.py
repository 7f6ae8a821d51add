"""The limits of plain HTTP requests in progress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

WAIT_SECONDS: Final = 5.0
"""How long a request may wait for its turn before it is refused with 503."""


@dataclass(frozen=True, slots=True)
class PlainLimits:
    """How many requests may be in progress, and how long their clients may take."""

    in_progress: int = 256
    in_progress_per_address: int = 32
    stall_seconds: float = 20.0

    @property
    def wait_seconds(self) -> float:
        """How long a request may wait for its turn."""
        return min(WAIT_SECONDS, self.stall_seconds)
