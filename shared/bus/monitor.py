"""State of a Redis connection: why it failed, since when, and when to reconnect. No I/O."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from shared.bus import counters, log_events
from shared.redis.errors import explain

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from shared.bus.ports import Count
    from shared.clock import Clock

BACKOFF_FIRST_SECONDS: Final = 0.05
BACKOFF_LIMIT_SECONDS: Final = 0.5
"""The pause before reconnecting doubles up to this limit, with jitter."""

DESCRIBED_LIMIT_CHARACTERS: Final = 300
"""Maximum length of an error in logs and readiness."""

_DOUBLINGS_LIMIT: Final = 10


class SilenceError(Exception):
    """No message arrived on the subscription for the given number of seconds."""

    def __init__(self, seconds: float) -> None:
        """Store the number of seconds."""
        super().__init__(f"no message for {seconds:g} s")


class ConnectionMonitor:
    """Tracks one of the two connections; logs once when an outage begins and once when it ends.

    `trouble` is why the connection does not work, or empty. `silent`: it was closed after silence,
    and no message has arrived since. If nothing is published, that happens repeatedly, so it is
    logged once.
    """

    def __init__(self, name: str, clock: Clock, log: FilteringBoundLogger, count: Count) -> None:
        """Start without an outage."""
        self._name = name
        self._clock = clock
        self._log = log
        self._count = count
        self._failures = 0
        self._lost_at: float | None = None
        self.trouble = ""
        self.silent = False

    def connected(self) -> None:
        """Note that Redis confirmed it; after silence, only a message ends the outage."""
        self._failures = 0
        self.trouble = ""
        if not self.silent:
            self.works()

    def works(self) -> None:
        """Note that the connection works, which ends an outage."""
        self._failures = 0
        self.trouble = ""
        self.silent = False
        if self._lost_at is not None:
            seconds = round(self._clock.monotonic() - self._lost_at, 3)
            self._log.info(log_events.BACK.name, link=self._name, seconds=seconds)
            self._lost_at = None

    def failed(self, error: Exception) -> float:
        """Note why it failed; returns the seconds to wait before reconnecting."""
        self.silent = isinstance(error, SilenceError)
        self.trouble = describe(error)
        why = "silence" if self.silent else "error"
        self._count(counters.CONNECTIONS_LOST, link=self._name, why=why)
        if self._lost_at is None:
            self._lost_at = self._clock.monotonic()
            self._log.warning(log_events.LOST.name, link=self._name, error=self.trouble)
        pause = min(BACKOFF_LIMIT_SECONDS, BACKOFF_FIRST_SECONDS * 2.0**self._failures)
        self._failures = min(self._failures + 1, _DOUBLINGS_LIMIT)
        return pause * random.uniform(0.5, 1.0)  # noqa: S311  spreads replicas, guards nothing


def describe(error: Exception) -> str:
    """Describe an error for people; redis-py's errors name host and port, never a password."""
    if isinstance(error, SilenceError):
        return str(error)
    return explain(error)[:DESCRIBED_LIMIT_CHARACTERS]
