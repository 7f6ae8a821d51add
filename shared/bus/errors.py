"""Everything the bus raises.

BusError
├── Unavailable   there is no answer, so nothing is known: neither yes nor no
└── Rejected      a message that is dropped and counted, never handled
"""

from __future__ import annotations

from typing import Literal

Reason = Literal["no-responder", "timeout", "overloaded", "redis", "no-lease"]
Dependency = Literal["approval", "redis"]
Why = Literal["unsealed", "version", "replayed", "oversized", "malformed", "self"]


class BusError(Exception):
    """Base of all errors of the bus."""


class Unavailable(BusError):
    """No answer could be had; the asker may come back later.

    `reason`: `no-responder` (nobody listens), `timeout` (nobody answered in time), `overloaded`
    (too many questions in flight, here or there), `redis` (nothing could be published) or
    `no-lease` (nobody has vouched lately that what is known here is current).
    `dependency` is what to look at; `detail` is for the log and never holds a secret.
    """

    def __init__(
        self, reason: Reason, dependency: Dependency | None = None, detail: str = ""
    ) -> None:
        """Take `dependency` from `reason` unless it is given."""
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason: Reason = reason
        self.dependency: Dependency = dependency or ("redis" if reason == "redis" else "approval")
        self.detail = detail


class Rejected(BusError):
    """A message that must not be handled.

    `why`: `unsealed` (not sealed with a secret of ours for this channel), `version` (sealed by us,
    in a version not read here), `replayed`, `oversized`, `malformed` or `self` (our own message
    where only others may speak). `sender` is known where the seal was right, else empty.
    """

    def __init__(self, why: Why, sender: str = "") -> None:
        """Keep both as attributes."""
        super().__init__(f"{why}, from {sender}" if sender else why)
        self.why: Why = why
        self.sender = sender
