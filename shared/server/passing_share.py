"""Which share of new connections the kernel lets through in an overload. Pure.

The share falls while more upgrades wait than may, or while the accept queue grows too long, and
rises when more may wait. Connections that were let through take some time until they count as
waiting upgrades; until then, their number is estimated.
"""

from __future__ import annotations

import math
from typing import Final

SHARE_MIN: Final = 1 / 256
QUEUE_SECONDS: Final = 0.15
"""Accepting the whole accept queue should not take longer, because health checks wait behind it."""
QUEUE_MIN_CONNECTIONS: Final = 16
FIRST_RATE: Final = 3000.0
"""Connections accepted per second, until that is measured."""
_MEASURED_MAX_SECONDS: Final = 1.0
"""The rate is not measured over a longer interval, in which adjusting had stopped."""
FILTER_SECONDS: Final = 60.0
"""How long a filter is needed once the share is back at 1.

The kernels of clients that gave up still retransmit.
"""
_FALL: Final = 0.7
_FALL_MIN: Final = 0.1
"""In one step, the share does not fall below this part of its value."""
_RISES: Final = ((0.1, 2.0), (0.9, 1.3))
"""Pairs of a load and the factor by which the share rises while the load is below it."""


class PassingShare:
    """The share, adjusted at short intervals."""

    def __init__(self) -> None:
        self.share = 1.0
        self._load = 0.0
        self._rate = FIRST_RATE
        self._arriving = 0.0
        """Estimated number of accepted connections that do not count as waiting upgrades yet."""
        self._adjusted_at = -math.inf
        self._needed_at = -math.inf

    def is_needed(self, now: float) -> bool:
        """Return whether a filter is needed, or was needed shortly before."""
        return self.share < 1 or now - self._needed_at < FILTER_SECONDS

    def adjust(
        self, now: float, *, waiting: int, limit: int, queued: int, accepted: int, arrived: int
    ) -> None:
        """Adjust the share.

        `waiting` upgrades wait and `limit` may; `queued` connections are in the accept queue.
        `accepted` were accepted since the last call; `arrived` of these may become waiting
        upgrades, because they were neither closed nor health checks.
        """
        if self.share < 1:
            self._needed_at = now
        since = now - self._adjusted_at
        if queued and accepted and since <= _MEASURED_MAX_SECONDS:
            rate = accepted / max(since, 0.001)
            self._rate = (self._rate + rate) / 2
        self._adjusted_at = now
        queue_limit = max(QUEUE_MIN_CONNECTIONS, self._rate * QUEUE_SECONDS)
        self._arriving = self._arriving / 2 + arrived
        load = max((waiting + self._arriving) / limit, queued / queue_limit)
        if load > 1:
            if load >= self._load:
                self.share = max(SHARE_MIN, self.share * max(_FALL_MIN, _FALL / load))
        else:
            rise = next((rise for below, rise in _RISES if load < below), 1.0)
            self.share = min(1.0, self.share * rise)
        self._load = load
