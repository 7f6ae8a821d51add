"""How a connection to Redis fares: why it is away, since when, and when to try again. No I/O."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from shared.bus import counters

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from shared.bus.ports import Count
    from shared.clock import Clock

BACKOFF_FIRST_SECONDS: Final = 0.05
BACKOFF_LIMIT_SECONDS: Final = 1.0
"""The pause before a connection is made anew doubles from the first to the limit, jittered."""

_DOUBLINGS_LIMIT: Final = 10


class SilenceError(Exception):
    """Nothing came on the subscription for so many seconds."""

    def __init__(self, seconds: float) -> None:
        """Name the seconds."""
        super().__init__(f"no message for {seconds:g} s")


class ConnectionMonitor:
    """One of the two connections. An outage is logged once when it begins and once when it ends.

    `trouble` is why it does not work, empty if it does. `silent`: it was given up for silence, and
    no message has come since; where nobody speaks that goes on and on, so it is logged once.
    """

    def __init__(self, name: str, clock: Clock, log: FilteringBoundLogger, count: Count) -> None:
        """Be in no outage yet."""
        self._name = name
        self._clock = clock
        self._log = log
        self._count = count
        self._failures = 0
        self._lost_at: float | None = None
        self.trouble = ""
        self.silent = False

    def connected(self) -> None:
        """Note that Redis confirmed it; after a silence, only a message shows that it works."""
        self._failures = 0
        self.trouble = ""
        if not self.silent:
            self.works()

    def works(self) -> None:
        """Note that it works, which ends an outage."""
        self._failures = 0
        self.trouble = ""
        self.silent = False
        if self._lost_at is not None:
            seconds = round(self._clock.monotonic() - self._lost_at, 3)
            self._log.info("bus_back", link=self._name, seconds=seconds)
            self._lost_at = None

    def failed(self, error: Exception) -> float:
        """Note why it failed; returns how many seconds to pause before connecting anew."""
        self.silent = isinstance(error, SilenceError)
        self.trouble = describe(error)
        why = "silence" if self.silent else "error"
        self._count(counters.CONNECTIONS_LOST, link=self._name, why=why)
        if self._lost_at is None:
            self._lost_at = self._clock.monotonic()
            self._log.warning("bus_lost", link=self._name, error=self.trouble)
        pause = min(BACKOFF_LIMIT_SECONDS, BACKOFF_FIRST_SECONDS * 2.0**self._failures)
        self._failures = min(self._failures + 1, _DOUBLINGS_LIMIT)
        return pause * random.uniform(0.5, 1.0)  # noqa: S311  spreads replicas, guards nothing


def describe(error: Exception) -> str:
    """Say what is wrong, for people; redis-py's errors name host and port, never a password."""
    if isinstance(error, SilenceError):
        return str(error)
    return f"{type(error).__name__}: {str(error) or 'no answer in time'}"[:200]
