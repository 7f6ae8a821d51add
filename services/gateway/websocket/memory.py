"""Limits the memory for messages that are incomplete or unread, over all sockets. Pure.

A socket that holds nothing costs nothing here. When the limit is exceeded, sockets are closed until
the rest fits, the largest first.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

from shared.protocol.limits import MESSAGE_DEADLINE_SECONDS

if TYPE_CHECKING:
    from shared.clock import Clock


class Part(IntEnum):
    """What a socket holds."""

    INPUT = 0
    """Messages that are incomplete, or wait to be processed."""
    OUTPUT = 1
    """What the client has not read."""
    UPSTREAM = 2
    """The same for the upstream's side of a relayed session."""


class Holder(Protocol):
    """A socket that holds memory."""

    def unread_bytes(self) -> int:
        """Return how many bytes wait for the client to read them."""
        ...

    def on_progress(self) -> None:
        """Note that the client reads, even if slowly: a ping waits behind the rest."""
        ...

    def shed(self, reason: str) -> None:
        """Release everything that is held, and close the socket."""
        ...


MEMORY_REASON = "memory limit"
"""Close reason (1013) of the socket that holds the most when the limit is exceeded."""
DEADLINE_REASON = "incomplete message"
"""Close reason (1013) of a socket whose message did not arrive in time."""


@dataclass(slots=True)
class _Held:
    parts: list[int]
    message: object = None
    """The incomplete message, by identity."""
    began: float = 0.0
    """When that message began, in monotonic seconds."""


class MemoryBudget:
    """The bytes that sockets hold, and the limit for all of them together."""

    def __init__(
        self,
        clock: Clock,
        *,
        limit_bytes: int,
        deadline_seconds: float = MESSAGE_DEADLINE_SECONDS,
    ) -> None:
        self._clock = clock
        self._limit_bytes = limit_bytes
        self._deadline_seconds = deadline_seconds
        self._holders: dict[Holder, _Held] = {}
        self.held_bytes = 0
        """How many bytes all sockets hold."""
        self.shed_for_memory = 0
        """How many sockets were closed because the limit was exceeded."""
        self.shed_for_time = 0
        """How many were closed because a message did not arrive in time."""

    def hold(self, holder: Holder, part: Part, held_bytes: int, message: object = None) -> None:
        """Set how much a socket holds; `message` identifies an incomplete message."""
        held = self._holders.get(holder)
        if held is None:
            if not held_bytes:
                return
            held = self._holders[holder] = _Held([0] * len(Part))
        self.held_bytes += held_bytes - held.parts[part]
        held.parts[part] = held_bytes
        if part is Part.INPUT and message is not held.message:
            held.message, held.began = message, self._clock.monotonic()
        if not any(held.parts):
            del self._holders[holder]
        elif self.held_bytes > self._limit_bytes:
            self._shed_largest()

    def release(self, holder: Holder) -> None:
        """Forget a socket."""
        held = self._holders.pop(holder, None)
        if held is not None:
            self.held_bytes -= sum(held.parts)

    def sweep(self) -> None:
        """Measure again what is unread, and close sockets whose message is overdue."""
        overdue = self._clock.monotonic() - self._deadline_seconds
        for holder, held in list(self._holders.items()):
            if held.message is not None and held.began < overdue:
                self.shed_for_time += 1
                self.release(holder)
                holder.shed(DEADLINE_REASON)
            elif held.parts[Part.OUTPUT]:
                unread_bytes = holder.unread_bytes()
                if unread_bytes < held.parts[Part.OUTPUT]:
                    holder.on_progress()
                self.hold(holder, Part.OUTPUT, unread_bytes)

    def _shed_largest(self) -> None:
        while self.held_bytes > self._limit_bytes:
            largest = max(self._holders, key=lambda holder: sum(self._holders[holder].parts))
            self.shed_for_memory += 1
            self.release(largest)
            largest.shed(MEMORY_REASON)
