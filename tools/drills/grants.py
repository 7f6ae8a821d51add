"""Who may come in, from when until when: what the drill knows because it approved and revoked."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass


@dataclass(slots=True)
class Grant:
    """A device may come in. Both ends are generous to the service.

    `since`: when the approval was sent. `until`: when the revoke was answered.
    """

    since: float
    until: float = math.inf


class Grants:
    """The grants of all devices; those of strangers are none. Times are of one clock, in seconds."""

    def __init__(self) -> None:
        self._of: defaultdict[str, list[Grant]] = defaultdict(list)

    def grant(self, device: str, since: float) -> None:
        """Note that an approval of this device is sent now."""
        self._of[device].append(Grant(since))

    def void(self, device: str, at: float) -> None:
        """Note that a revoke was answered."""
        for grant in self._of[device]:
            grant.until = min(grant.until, at)

    def void_all(self, asked_at: float, at: float) -> None:
        """Note that all was forgotten between these two; what is approved after `asked_at` stays."""
        for grants in self._of.values():
            for grant in grants:
                if grant.since < asked_at:
                    grant.until = min(grant.until, at)

    def may_enter(self, device: str, began: float, at: float) -> bool:
        """Say whether it may have been right to let it in, at any time of this attempt."""
        return any(one.since <= at and began < one.until for one in self._of[device])

    def holds(self, device: str, began: float, at: float) -> bool:
        """Say whether it was paired all the while."""
        return any(one.since <= began and at <= one.until for one in self._of[device])

    def stands(self, device: str) -> bool:
        """Say whether it may come in as far as is known now."""
        return any(one.until == math.inf for one in self._of[device])
