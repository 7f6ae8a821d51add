"""Decides whose upstream socket is opened next: few at a time, addresses in turn. Pure.

An upstream takes some 70 connects a second, whatever the number of gateways, so opening sockets is
what has to be rationed. Addresses take turns: one that asks for many waits behind itself.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final

from shared.upstream import UNADMITTED_LIMIT_PER_ADDRESS

if TYPE_CHECKING:
    from collections.abc import Callable

OPENING_LIMIT: Final = 8
"""How many upstream sockets one gateway opens at the same time."""
WAITING_LIMIT: Final = 4096
"""Maximum number of clients that wait for their turn; more are told to retry at once."""
OPEN_SECONDS: Final = 2.0
"""How long a client waits for its upstream socket, its turn included."""


class Ticket:
    """One client's place in the queue: waiting, opening or open."""

    __slots__ = ("address", "opening", "start", "waiting")

    def __init__(self, address: str, start: Callable[[], None]) -> None:
        self.address = address
        self.start = start
        self.waiting = True
        self.opening = False


class OpeningQueue:
    """Starts openings within both limits, round robin over addresses.

    `start` is called when it is a client's turn. Each ticket is given back exactly once, by
    `release`: when the client was admitted, or its socket ended, or it waits no longer.
    """

    def __init__(
        self,
        *,
        opening_limit: int = OPENING_LIMIT,
        unadmitted_limit: int = UNADMITTED_LIMIT_PER_ADDRESS,
        waiting_limit: int = WAITING_LIMIT,
    ) -> None:
        self._opening_limit = opening_limit
        self._unadmitted_limit = unadmitted_limit
        self._waiting_limit = waiting_limit
        self._opening = 0
        self._waiting = 0
        self._held: dict[str, int] = {}
        """Sockets of each address whose clients are not admitted yet."""
        self._queues: dict[str, deque[Ticket]] = {}
        self._turns: OrderedDict[str, None] = OrderedDict()
        """Addresses with a client that may start now, in the order of their turns."""

    @property
    def opening(self) -> int:
        """Number of sockets that are being opened."""
        return self._opening

    @property
    def waiting(self) -> int:
        """Number of clients that wait for their turn."""
        return self._waiting

    def ask(self, address: str, start: Callable[[], None]) -> Ticket | None:
        """Queue for a socket; None if the queue is full. `start` may be called at once."""
        if self._waiting >= self._waiting_limit:
            return None
        ticket = Ticket(address, start)
        self._queues.setdefault(address, deque()).append(ticket)
        self._waiting += 1
        self._take_turn(address)
        self._start_next()
        return ticket

    def opened(self, ticket: Ticket) -> None:
        """Record that a socket opened or failed, so another may be opened."""
        if ticket.opening:
            ticket.opening = False
            self._opening -= 1
            self._start_next()

    def release(self, ticket: Ticket) -> None:
        """Release a place: the client was admitted, or it is gone."""
        address = ticket.address
        if ticket.waiting:
            ticket.waiting = False
            self._waiting -= 1
            queue = self._queues[address]
            queue.remove(ticket)
            if not queue:
                del self._queues[address]
                self._turns.pop(address, None)
            return
        self._held[address] -= 1
        if not self._held[address]:
            del self._held[address]
        self._take_turn(address)
        self.opened(ticket)
        self._start_next()

    def _take_turn(self, address: str) -> None:
        """Queue an address if one of its clients waits and may start."""
        if address in self._queues and self._held.get(address, 0) < self._unadmitted_limit:
            self._turns.setdefault(address)

    def _start_next(self) -> None:
        """Start as many as allowed, beginning with the address that waits longest."""
        while self._turns and self._opening < self._opening_limit:
            address, _ = self._turns.popitem(last=False)
            queue = self._queues[address]
            ticket = queue.popleft()
            if not queue:
                del self._queues[address]
            self._waiting -= 1
            self._held[address] = self._held.get(address, 0) + 1
            self._opening += 1
            ticket.waiting = False
            ticket.opening = True
            self._take_turn(address)
            ticket.start()
