"""Which devices are authorised and when, as far as the drill approved or revoked them."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass


@dataclass(slots=True)
class Grant:
    """The period in which a device is authorised; both ends favour the service.

    `since`: when the approval was sent. `until`: when the response to the revocation arrived.
    """

    since: float
    until: float = math.inf


class Grants:
    """The grants of all approved devices. Times are in seconds of one clock."""

    def __init__(self) -> None:
        self._of: defaultdict[str, list[Grant]] = defaultdict(list)

    def grant(self, device: str, since: float) -> None:
        """Record that an approval of this device is being sent."""
        self._of[device].append(Grant(since))

    def void(self, device: str, at: float) -> None:
        """Record that a revocation was answered."""
        for grant in self._of[device]:
            grant.until = min(grant.until, at)

    def void_all(self, asked_at: float, at: float) -> None:
        """End all grants lost between these times; approvals after `asked_at` remain."""
        for grants in self._of.values():
            for grant in grants:
                if grant.since < asked_at:
                    grant.until = min(grant.until, at)

    def may_enter(self, device: str, began: float, at: float) -> bool:
        """Return whether the device was authorised at any time during this attempt."""
        return any(item.since <= at and began < item.until for item in self._of[device])

    def holds(self, device: str, began: float, at: float) -> bool:
        """Return whether it was paired during the whole attempt."""
        return any(item.since <= began and at <= item.until for item in self._of[device])

    def stands(self, device: str) -> bool:
        """Return whether it is authorised as far as is known now."""
        return any(item.until == math.inf for item in self._of[device])
