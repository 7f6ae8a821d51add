"""Errors of the bus.

BusError
├── Unavailable   no answer, so the result is unknown: neither yes nor no
└── Rejected      a message that is dropped and counted, never handled
"""

from __future__ import annotations

from typing import Literal

Reason = Literal["no-responder", "timeout", "overloaded", "redis", "no-lease"]
Dependency = Literal["approval", "redis"]
Why = Literal["unsealed", "version", "replayed", "oversized", "malformed", "self"]


class BusError(Exception):
    """Base class of all bus errors."""


class Unavailable(BusError):
    """No answer is available; the caller may retry later.

    `reason`: `no-responder` (no subscriber), `timeout` (no answer in time), `overloaded` (too many
    questions in flight at either end), `redis` (publishing failed) or `no-lease` (the local state
    has not been confirmed recently). `dependency` is the component to check; `detail` is for the
    log and never contains a secret.
    """

    def __init__(
        self, reason: Reason, dependency: Dependency | None = None, detail: str = ""
    ) -> None:
        """Derive `dependency` from `reason` unless it is given."""
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason: Reason = reason
        self.dependency: Dependency = dependency or ("redis" if reason == "redis" else "approval")
        self.detail = detail


class Rejected(BusError):
    """A message that must not be handled.

    `why`: `unsealed` (not sealed with our secret for this channel), `version` (sealed with our
    secret, in an unsupported version), `replayed`, `oversized`, `malformed` or `self` (our own
    message on a channel for messages of others). `sender` is set if the seal was valid, else empty.
    """

    def __init__(self, why: Why, sender: str = "") -> None:
        """Store both as attributes."""
        super().__init__(f"{why}, from {sender}" if sender else why)
        self.why: Why = why
        self.sender = sender
