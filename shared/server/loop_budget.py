"""Divides the time of the event loop among sockets. Pure: the loop and the clock are arguments.

What a socket receives is processed at once, as long as its lane has time left. Otherwise it waits,
and is processed in a later iteration of the loop, in slices, so that heartbeats, the bus, health
checks and pings run in between. Finishing comes first: frames of admitted clients before
handshakes, and handshakes before new upgrades.
"""

from __future__ import annotations

import math
import time
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Protocol

from shared.server.upgrade_limit import UpgradeLimit

if TYPE_CHECKING:
    from collections.abc import Callable


class Lane(IntEnum):
    """What a socket wants processed, in order of priority."""

    SESSIONS = 0
    """Frames of admitted clients."""
    HANDSHAKES = 1
    """Frames of WebSockets whose clients are not admitted yet."""
    UPGRADES = 2
    """Requests to become a WebSocket."""


SESSIONS_SECONDS: Final = 0.025
HANDSHAKES_SECONDS: Final = 0.040
UPGRADES_SECONDS: Final = 0.030
TRICKLE_SECONDS: Final = 0.002
"""The time for upgrades while handshakes wait: handshakes are finished first."""
HANDSHAKES_WAITING_MAX: Final = 64
"""No upgrade is begun while more handshakes than this wait to begin."""
RENEWAL_SECONDS: Final = 0.050
"""How often the time of each lane is renewed while nothing waits."""
SESSIONS_LOW_SECONDS: Final = 0.015
"""With less than this left, the time for sessions is renewed in the next iteration of the loop.

Queuing a frame adds about half to its cost, so frames wait only when an iteration is full.
"""
HANDSHAKE_WAIT_SECONDS: Final = 2.0
"""How long handshakes may wait; after that, clients have hardly any time left for the rest."""

WAITING_SECONDS: Final = (0.005, 0.006, 0.003)
"""The time of each lane in one iteration of the loop, while sockets wait."""

_SECONDS: Final = (SESSIONS_SECONDS, HANDSHAKES_SECONDS, UPGRADES_SECONDS)


class Waiting(Protocol):
    """A socket that waits for loop time."""

    def run_slice(self, *, overdue: bool) -> bool:
        """Process one slice of what it received; return whether there is more.

        `overdue`: it waited too long, and is to be turned away instead.
        """
        ...


class _Queue:
    """Sockets that wait for their first slice. Their keys, such as addresses, take turns."""

    __slots__ = ("_by_key", "_keys", "since")

    def __init__(self) -> None:
        self.since: dict[Waiting, float] = {}
        """When each began to wait; the oldest first."""
        self._keys: dict[Waiting, str] = {}
        self._by_key: dict[str, dict[Waiting, None]] = {}
        """The sockets of each key; the key whose turn it is first."""

    def __len__(self) -> int:
        return len(self.since)

    def add(self, socket: Waiting, key: str, now: float) -> None:
        if socket not in self.since:
            self.since[socket] = now
            self._keys[socket] = key
            self._by_key.setdefault(key, {})[socket] = None

    def remove(self, socket: Waiting) -> float | None:
        """Remove a socket; return since when it waited, or None if it did not."""
        since = self.since.pop(socket, None)
        if since is not None:
            key = self._keys.pop(socket)
            same = self._by_key[key]
            del same[socket]
            if not same:
                del self._by_key[key]
        return since

    def next_in_turn(self) -> Waiting:
        """Return the oldest socket of the next key."""
        key = next(iter(self._by_key))
        same = self._by_key.pop(key)
        self._by_key[key] = same
        return next(iter(same))


class LoopBudget:
    """The lanes of one process. `schedule` calls a function in the next iteration of the loop."""

    def __init__(
        self,
        schedule: Callable[[Callable[[], None]], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._schedule = schedule
        self._clock = clock
        self._left = list(_SECONDS)
        self._renewed_at = 0.0
        self._held: set[Lane] = set()
        self._new = (_Queue(), _Queue(), _Queue())
        """Sockets that wait for their first slice."""
        self._served: tuple[dict[Waiting, float], ...] = ({}, {}, {})
        """Sockets that had a slice; new ones come before them."""
        self._unbegun: set[Waiting] = set()
        """Handshakes that wait with the first data of their clients.

        Later data does not count: clients could keep sending a little, and stop all upgrades.
        """
        self._is_due = False
        self._renews_sessions = False
        """Whether the time for sessions is renewed in the next iteration."""
        self._upgrade_limit = UpgradeLimit()

    def begin(self, lane: Lane) -> float:
        """Return the time for `end` if something may be processed at once, else 0."""
        now = self._clock()
        if now - self._renewed_at >= RENEWAL_SECONDS:
            self._renew(now)
        return now if self._left[lane] > 0 else 0.0

    def end(self, lane: Lane, began: float) -> None:
        """Note that what began with `begin` is done."""
        left = self._left[lane] = self._left[lane] - (self._clock() - began)
        if left < SESSIONS_LOW_SECONDS and lane is Lane.SESSIONS and not self._renews_sessions:
            self._renews_sessions = True
            self._schedule(self._renew_sessions)

    def wait(self, lane: Lane, socket: Waiting, key: str = "", *, is_first: bool = True) -> None:
        """Have a socket processed in a later iteration of the loop; keys take turns.

        `is_first`: nothing that the socket received was processed before.
        """
        if socket not in self._served[lane]:
            now = self._clock()
            if lane is Lane.UPGRADES and not self._new[lane]:
                self._upgrade_limit.first_waits(now)
            self._new[lane].add(socket, key, now)
        self._left[lane] = 0.0
        if lane is Lane.HANDSHAKES:
            self._left[Lane.UPGRADES] = 0.0
            if is_first:
                self._unbegun.add(socket)
        self._run_soon()

    def remove(self, socket: Waiting) -> None:
        """Forget a socket that is closed."""
        self._unbegun.discard(socket)
        for lane in Lane:
            self._new[lane].remove(socket)
            self._served[lane].pop(socket, None)

    def upgrade_gave_up(self, socket: Waiting) -> None:
        """Forget a socket whose client closed it while its upgrade waited."""
        waiting = self._new[Lane.UPGRADES]
        since = waiting.remove(socket)
        if since is not None:
            self._upgrade_limit.gave_up(self._clock() - since, waiting=len(waiting))

    def hold(self, lane: Lane) -> None:
        """Process nothing of a lane until `release`."""
        self._held.add(lane)
        self._left[lane] = 0.0

    def release(self, lane: Lane) -> None:
        """Process a lane again."""
        self._held.discard(lane)
        self._run_soon()

    def waiting(self, lane: Lane) -> int:
        """Return the number of sockets that wait."""
        return len(self._new[lane]) + len(self._served[lane])

    def upgrades(self) -> tuple[int, int]:
        """Return how many upgrades wait, and how many may."""
        return len(self._new[Lane.UPGRADES]), self._upgrade_limit.size(self._clock())

    def sweep(self) -> None:
        """Process what is overdue in a lane that is held; called several times a second."""
        if self._held:
            self._run_soon(even_held=True)

    def _run_soon(self, *, even_held: bool = False) -> None:
        if not self._is_due and any(
            self.waiting(lane) and (even_held or not self._is_blocked(lane)) for lane in Lane
        ):
            self._is_due = True
            self._schedule(self._run)

    def _is_blocked(self, lane: Lane) -> bool:
        """Return whether a lane has to wait for `release` or `sweep`."""
        return lane in self._held or (
            lane is Lane.UPGRADES and Lane.HANDSHAKES in self._held and self._upgrades_must_wait
        )

    @property
    def _upgrades_must_wait(self) -> bool:
        return len(self._unbegun) > HANDSHAKES_WAITING_MAX

    def _run(self) -> None:
        """Process waiting sockets for the time of each lane."""
        self._is_due = False
        try:
            for lane in Lane:
                if self.waiting(lane):
                    self._serve(lane)
        finally:
            self._renew(self._clock())
            self._run_soon()

    def _serve(self, lane: Lane) -> None:
        new, served = self._new[lane], self._served[lane]
        now = self._clock()
        may_wait = (math.inf, HANDSHAKE_WAIT_SECONDS, self._upgrade_limit.wait_seconds)[lane]
        until = now + WAITING_SECONDS[lane]
        if lane is Lane.UPGRADES and self.waiting(Lane.HANDSHAKES):
            if self._upgrades_must_wait:
                return
            until = now + TRICKLE_SECONDS
        while now < until and (new or served):
            socket, since = next(iter((new.since or served).items()))
            overdue = now - since > may_wait
            if not overdue:
                if lane in self._held:
                    return
                if new:
                    socket = new.next_in_turn()
                    since = new.since[socket]
            new.remove(socket)
            served.pop(socket, None)
            self._unbegun.discard(socket)
            if lane is Lane.UPGRADES:
                self._upgrade_limit.served(now - since, now, overdue=overdue)
            if socket.run_slice(overdue=overdue):
                served[socket] = since
            now = self._clock()

    def _renew_sessions(self) -> None:
        self._renews_sessions = False
        if Lane.SESSIONS not in self._held and not self.waiting(Lane.SESSIONS):
            self._left[Lane.SESSIONS] = SESSIONS_SECONDS

    def _renew(self, now: float) -> None:
        """Give each lane its time, unless it must not overtake what waits or is held."""
        self._renewed_at = now
        for lane in Lane:
            blocked = lane in self._held or self.waiting(lane)
            self._left[lane] = 0.0 if blocked else _SECONDS[lane]
        if self.waiting(Lane.HANDSHAKES):
            self._left[Lane.UPGRADES] = 0.0
