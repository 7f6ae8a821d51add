"""Sockets that have connected and not asked for anything yet: their time is short too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from shared.protocol.limits import HANDSHAKE_DEADLINE_SECONDS

if TYPE_CHECKING:
    from shared.clock import Clock


class Arrival(Protocol):
    """A socket's protocol."""

    def force_close(self) -> None:
        """End the socket."""
        ...


class Arrivals:
    """Those whose first HTTP request is not complete, in the order they came.

    They have as long for it as a WebSocket has for its handshake, whether they are silent or slow.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._deadlines: dict[Arrival, float] = {}

    def __len__(self) -> int:
        return len(self._deadlines)

    def came(self, one: Arrival) -> None:
        """Note that a socket was accepted."""
        self._deadlines[one] = self._clock.monotonic() + HANDSHAKE_DEADLINE_SECONDS

    def done(self, one: Arrival) -> None:
        """Note that its first request is here, or that it is gone."""
        self._deadlines.pop(one, None)

    def end(self) -> None:
        """End all of them: this replica leaves."""
        for one in list(self._deadlines):
            self.done(one)
            one.force_close()

    def sweep(self) -> None:
        """End those who took too long."""
        now = self._clock.monotonic()
        late = []
        for one, deadline in self._deadlines.items():
            if deadline > now:
                break
            late.append(one)
        for one in late:
            del self._deadlines[one]
            one.force_close()
