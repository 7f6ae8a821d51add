"""How many upgrades may wait for loop time. Pure: times are arguments, in seconds of one clock.

The limit is the number that can be served while waiting is worthwhile. A burst, such as a whole
fleet that reconnects, may wait for seconds, so that no client has to try again. In an overload,
which lasts longer, the queue is short: in a long one, each client would be served just before it
gives up, or after. When clients give up while they wait, those that have waited nearly as long are
not served either.
"""

from __future__ import annotations

from typing import Final

BURST_WAIT_SECONDS: Final = 8.0
"""How long upgrades may wait in a burst. Clients have 10 s or more for the whole handshake."""
LASTING_WAIT_SECONDS: Final = 0.5
"""How long they may wait in an overload."""
BURST_SECONDS: Final = 10.0
"""Once waits have been long for this time, it is an overload and no longer a burst."""
SHORT_WAIT_SECONDS: Final = 0.1
CALM_SECONDS: Final = 1.0
"""An overload is over once waits have been short for this time."""
WAIT_SECONDS: Final = 9.0
"""How long an upgrade may wait; after that, its client has hardly any time left for the rest."""
GIVEN_UP_MAX: Final = 8.0
GIVEN_UP_PART: Final = 0.125
"""The queue is too long if this many clients gave up, and also this part of the number waiting.

Thus the few sockets of one address do not shorten the queue of a whole fleet.
"""
FORGIVEN_PER_SERVED: Final = 0.125
VIABLE_PART: Final = 0.6
"""A client is worth serving up to this part of the time after which others gave up."""
VIABLE_MIN_SECONDS: Final = 2 * LASTING_WAIT_SECONDS
"""It is always worth serving for this long: in any overload, clients wait for half of this time."""

UPGRADES_MAX: Final = 16_384
UPGRADES_MIN: Final = 64
UPGRADES_FIRST: Final = 1024
"""The limit until the rate is known."""
RATE_SECONDS: Final = 0.25
"""Interval over which the rate is measured."""
_NEVER: Final = float("-inf")


class UpgradeLimit:
    """Adapts the limit to the rate at which waiting upgrades are served, and to the overload."""

    def __init__(self) -> None:
        self.rate: float | None = None
        """Upgrades served per second while some wait; None: not known yet."""
        self._counted = 0
        self._counted_since = _NEVER
        self._served_at = _NEVER
        self._long_since: float | None = None
        self._short_since: float | None = None
        self._given_up = 0.0
        self._patience = 0.0
        self.wait_seconds = WAIT_SECONDS
        """How long an upgrade may wait before it is no longer worth serving."""

    def size(self, now: float) -> int:
        """Return how many may wait."""
        if self.rate is None:
            return UPGRADES_FIRST
        wait = LASTING_WAIT_SECONDS if self._lasts(now) else BURST_WAIT_SECONDS
        return int(min(UPGRADES_MAX, max(UPGRADES_MIN, self.rate * wait)))

    def first_waits(self, now: float) -> None:
        """Note that an upgrade waits when no other does."""
        self._counted, self._counted_since = 0, now
        if now - self._served_at >= CALM_SECONDS:
            self._end_overload()

    def served(self, waited: float, now: float, *, overdue: bool = False) -> None:
        """Note that an upgrade was served after waiting, or turned away because it was overdue."""
        self._served_at = now
        self._counted += not overdue
        since = now - self._counted_since
        if since >= RATE_SECONDS:
            rate = self._counted / since
            self.rate = rate if self.rate is None else (self.rate + rate) / 2
            self._counted, self._counted_since = 0, now
        self._given_up = max(0.0, self._given_up - FORGIVEN_PER_SERVED)
        if waited > LASTING_WAIT_SECONDS and self._long_since is None:
            self._long_since = now
        if waited > SHORT_WAIT_SECONDS:
            self._short_since = None
        elif self._short_since is None:
            self._short_since = now
        elif now - self._short_since >= CALM_SECONDS:
            self._end_overload()

    def gave_up(self, waited: float, *, waiting: int) -> None:
        """Note that a client left while its upgrade waited; `waiting` others still wait."""
        if waited <= LASTING_WAIT_SECONDS:
            return
        self._given_up += 1
        self._patience += (waited - self._patience) / min(self._given_up, GIVEN_UP_MAX)
        if self._given_up >= max(GIVEN_UP_MAX, GIVEN_UP_PART * waiting):
            viable = max(VIABLE_MIN_SECONDS, VIABLE_PART * self._patience)
            self.wait_seconds = min(WAIT_SECONDS, viable)

    def _lasts(self, now: float) -> bool:
        if self.wait_seconds < WAIT_SECONDS:
            return True
        return self._long_since is not None and now - self._long_since > BURST_SECONDS

    def _end_overload(self) -> None:
        self._long_since = self._short_since = None
        self._given_up = self._patience = 0.0
        self.wait_seconds = WAIT_SECONDS
