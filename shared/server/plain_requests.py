"""Schedules plain HTTP requests, so that they never crowd out the bus, heartbeats and sessions.

A request waits for its turn, then is in progress until its response was written. At most
STARTS_PER_TURN requests start in one iteration of the event loop: everything else that is ready
runs in between. Waiting requests start in turn by address, health checks and operators first.
Requests in progress are limited in total and per address. When the total is reached, a request may
displace one of the address with the most, but never one of an operator.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import TYPE_CHECKING, Final, Protocol

from shared.server.known_operators import KnownOperators, Rank
from shared.server.unread_responses import PROGRESS_BYTES, UnreadResponses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiohttp import web

    from shared.clock import Clock
    from shared.server.plain_limits import PlainLimits

STARTS_PER_TURN: Final = 8
"""Requests started in one iteration of the event loop; each takes 0.1 to 0.5 ms."""
DISPLACE_AFTER_SECONDS: Final = 2.0
"""From this age on, a request in progress may be displaced even if its address has few."""
SWEEP_SECONDS: Final = 0.25
HEALTH_PATHS: Final = frozenset({"/livez", "/readyz", "/healthz", "/health", "/ready"})
WAITING_BODY_BYTES: Final = 16 * 1024
"""A larger body would take too much memory while an anonymous request waits."""
RETRY_AFTER_SECONDS: Final = 2
_QUOTAS: Final = ((Rank.HEALTH, 3), (Rank.OPERATOR, 3), (Rank.ANONYMOUS, 2))
"""Starts per turn that each rank has for itself; the rest goes by rank."""


class PlainSocket(Protocol):
    """The socket of a request."""

    def abort(self) -> None:
        """Close the socket at once."""
        ...

    def stalled_body(self) -> None:
        """Close the socket, because the body of its request does not arrive."""
        ...

    @property
    def expects_body(self) -> bool:
        """Whether the client has to send more of a request's body."""
        ...

    @property
    def received_bytes(self) -> int:
        """All bytes received so far."""
        ...


class Ticket:
    """A request that waits or is in progress."""

    __slots__ = (
        "key",
        "rank",
        "received_bytes",
        "refused",
        "running",
        "since",
        "socket",
        "turn",
        "waiting",
    )

    def __init__(self, socket: PlainSocket, key: str, rank: Rank, since: float) -> None:
        self.socket = socket
        self.key = key
        self.rank = rank
        self.since = since
        """When it began to wait, or when it started or last made progress."""
        self.received_bytes = 0
        """What the socket had received at that time."""
        self.waiting = False
        self.running = False
        self.refused = False
        self.turn: asyncio.Future[None] | None = None
        """Done as soon as it may start or is refused; None if that was so at once."""


class PlainRequests:
    """All plain HTTP requests of one service.

    `count` is called with the reason of each request that is dropped, and `refusal` makes the
    response to one that waited too long. Health checks are also served below `prefix`.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        limits: PlainLimits,
        count: Callable[[str], None],
        refusal: Callable[[], web.Response],
        prefix: str = "",
    ) -> None:
        self._clock = clock
        self._limits = limits
        self._count = count
        self.refusal: Final = refusal
        self.health_paths: Final = HEALTH_PATHS | {prefix + path for path in HEALTH_PATHS}
        self._started = 0
        self._turn_is_due = False
        self._sweep_is_due = False
        self._rings: dict[Rank, dict[str, deque[Ticket]]] = {rank: {} for rank in Rank}
        self._ordered_rings = tuple(self._rings.values())
        self._parked: dict[Rank, dict[str, deque[Ticket]]] = {rank: {} for rank in Rank}
        self._running: dict[Ticket, None] = {}
        self._counted = 0
        self._by_key: Counter[str] = Counter()
        self._anonymous: dict[str, dict[Ticket, None]] = {}
        self.operators: Final = KnownOperators(clock)
        self.unread: Final = UnreadResponses(
            clock, stall_seconds=limits.stall_seconds, count=count, watch=self._watch
        )

    @property
    def in_progress(self) -> int:
        """The number of requests in progress."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """The number of requests that wait for their turn."""
        return sum(1 for _ in self._all_waiting())

    # -- one request ------------------------------------------------------------------------------

    def enter(self, socket: PlainSocket, key: str, rank: Rank, *, large_body: bool) -> Ticket:
        """Start a request, or let it wait: then its `turn` is to be awaited.

        An anonymous request with a large body does not wait: the body would take memory.
        """
        ticket = Ticket(socket, key, rank, self._clock.monotonic())
        if (
            self._started < STARTS_PER_TURN
            and not self._has_ready()
            and (rank is Rank.HEALTH or self._has_room(key))
        ):
            self._started += 1
            self._run(ticket)
        elif large_body and rank is Rank.ANONYMOUS:
            self._refuse(ticket, "body")
            return ticket
        else:
            ticket.waiting = True
            ticket.turn = asyncio.get_running_loop().create_future()
            self._ring_of(ticket).setdefault(key, deque()).append(ticket)
        self._schedule()
        self._watch()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Note that a request has ended, or that it continues under a limit of its own."""
        if ticket.running:
            self._end(ticket)
        elif ticket.waiting:
            self._drop_waiting(ticket)
            _wake(ticket, refused=True)
        if self._has_ready():
            self._schedule()

    def protect(self, ticket: Ticket) -> None:
        """Note that an operator sent this request, so it is not displaced."""
        if ticket.running and ticket.rank is Rank.ANONYMOUS:
            ticket.rank = Rank.OPERATOR
            self._forget_anonymous(ticket)

    # -- turns ------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """Start waiting requests, once per iteration of the event loop."""
        self._turn_is_due = False
        self._started = 0
        if not self._has_ready():
            return
        for rank, quota in _QUOTAS:
            self._start_waiting(rank, quota)
        for rank in Rank:
            self._start_waiting(rank, STARTS_PER_TURN - self._started)
        if self._started:
            self._schedule()

    def _start_waiting(self, rank: Rank, most: int) -> None:
        ring = self._rings[rank]
        for _ in range(most):
            ticket = self._next(rank, ring)
            if ticket is None:
                return
            self._started += 1
            self._run(ticket)
            _wake(ticket)

    def _next(self, rank: Rank, ring: dict[str, deque[Ticket]]) -> Ticket | None:
        """Take the next request that may start from the ring of addresses."""
        while ring:
            key = next(iter(ring))
            if rank is Rank.HEALTH:
                return _take(ring, key)
            if self._by_key[key] >= self._limits.in_progress_per_address:
                own = next(iter(self._anonymous.get(key, ())), None)
                if rank is not Rank.OPERATOR or own is None:
                    self._parked[rank][key] = ring.pop(key)
                    continue
                self._displace(own)
            if self._counted < self._limits.in_progress:
                return _take(ring, key)
            return self._make_room(rank, ring)
        return None

    def _make_room(self, rank: Rank, ring: dict[str, deque[Ticket]]) -> Ticket | None:
        """Displace a request in progress for a waiting one; None if that would be unfair."""
        if not self._anonymous:
            return None
        largest = max(self._anonymous, key=lambda key: len(self._anonymous[key]))
        most = len(self._anonymous[largest])
        key = next(iter(ring))
        if rank is not Rank.OPERATOR:
            smaller = (key for key in ring if self._by_key[key] + 1 < most)
            found = next(smaller, None)
            if found is None:
                oldest = min(
                    (next(iter(tickets)) for tickets in self._anonymous.values()),
                    key=lambda ticket: ticket.since,
                )
                if self._clock.monotonic() - oldest.since < DISPLACE_AFTER_SECONDS:
                    return None
                self._displace(oldest)
                return _take(ring, key)
            key = found
        self._displace(next(iter(self._anonymous[largest])))
        return _take(ring, key)

    def _displace(self, ticket: Ticket) -> None:
        self._end(ticket)
        self._count("displaced")
        ticket.socket.abort()

    def _has_ready(self) -> bool:
        """Return whether a request may start as soon as there is room."""
        health, operators, anonymous = self._ordered_rings
        return bool(anonymous or operators or health)

    def _has_room(self, key: str) -> bool:
        return (
            self._counted < self._limits.in_progress
            and self._by_key[key] < self._limits.in_progress_per_address
        )

    def _run(self, ticket: Ticket) -> None:
        ticket.waiting = False
        ticket.running = True
        ticket.since = self._clock.monotonic()
        ticket.received_bytes = ticket.socket.received_bytes
        self._running[ticket] = None
        if ticket.rank is Rank.HEALTH:
            return
        key = ticket.key
        self._counted += 1
        self._by_key[key] += 1
        if ticket.rank is Rank.ANONYMOUS:
            same = self._anonymous.get(key)
            if same is None:
                self._anonymous[key] = {ticket: None}
            else:
                same[ticket] = None

    def _end(self, ticket: Ticket) -> None:
        ticket.running = False
        del self._running[ticket]
        if ticket.rank is Rank.HEALTH:
            return
        key = ticket.key
        self._counted -= 1
        if self._by_key[key] > 1:
            self._by_key[key] -= 1
        else:
            del self._by_key[key]
        if ticket.rank is Rank.ANONYMOUS:
            self._forget_anonymous(ticket)
        for rank, parked in self._parked.items():
            queue = parked.pop(key, None)
            if queue is not None:
                self._rings[rank].setdefault(key, deque()).extend(queue)

    def _forget_anonymous(self, ticket: Ticket) -> None:
        same = self._anonymous[ticket.key]
        del same[ticket]
        if not same:
            del self._anonymous[ticket.key]

    def _ring_of(self, ticket: Ticket) -> dict[str, deque[Ticket]]:
        parked = self._parked[ticket.rank]
        return parked if ticket.key in parked else self._rings[ticket.rank]

    def _drop_waiting(self, ticket: Ticket) -> None:
        ring = self._ring_of(ticket)
        queue = ring[ticket.key]
        queue.remove(ticket)
        ticket.waiting = False
        if not queue:
            del ring[ticket.key]

    def _refuse(self, ticket: Ticket, why: str) -> None:
        self._count(why)
        _wake(ticket, refused=True)

    # -- deadlines --------------------------------------------------------------------------------

    def _watch(self) -> None:
        if not self._sweep_is_due:
            self._sweep_is_due = True
            asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep_and_watch)

    def _sweep_and_watch(self) -> None:
        self._sweep_is_due = False
        self.sweep()
        if self._running or self.unread or any(self._all_waiting()):
            self._watch()

    def sweep(self) -> None:
        """Drop what took too long, and what takes too much memory."""
        now = self._clock.monotonic()
        for ticket in list(self._all_waiting()):
            if now - ticket.since >= self._limits.wait_seconds:
                self._drop_waiting(ticket)
                self._refuse(ticket, "waited")
        for ticket in list(self._running):
            if now - ticket.since >= self._limits.stall_seconds:
                self._look_at_body(ticket, now)
        self.unread.sweep()
        if self._has_ready():
            self._schedule()

    def _look_at_body(self, ticket: Ticket, now: float) -> None:
        socket = ticket.socket
        if not socket.expects_body:
            return
        received = socket.received_bytes
        if received - ticket.received_bytes >= PROGRESS_BYTES:
            ticket.since, ticket.received_bytes = now, received
            return
        self._end(ticket)
        self._count("body")
        socket.stalled_body()

    def _all_waiting(self) -> Iterator[Ticket]:
        for rings in (self._rings, self._parked):
            for ring in rings.values():
                for queue in ring.values():
                    yield from queue


def _take(ring: dict[str, deque[Ticket]], key: str) -> Ticket:
    """Take the oldest request of an address, whose turn comes again after all others."""
    queue = ring.pop(key)
    ticket = queue.popleft()
    if queue:
        ring[key] = queue
    return ticket


def _wake(ticket: Ticket, *, refused: bool = False) -> None:
    """Let a waiting request continue."""
    ticket.refused = refused
    if ticket.turn is not None and not ticket.turn.done():
        ticket.turn.set_result(None)
