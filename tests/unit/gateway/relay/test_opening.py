"""Openings are bounded and fair: no storm exceeds the limits, no address starves another."""

from __future__ import annotations

from functools import partial

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.gateway.relay.opening import OpeningQueue, Ticket

ADDRESSES = ["198.51.100.1", "198.51.100.2", "2001:db8::/64"]


def test_starts_at_once_while_there_is_room() -> None:
    queue = OpeningQueue(opening_limit=2)
    started: list[str] = []
    for name in "abc":
        queue.ask(name, partial(started.append, name))
    assert started == ["a", "b"]
    assert (queue.opening, queue.waiting) == (2, 1)


def test_the_next_starts_when_one_is_open() -> None:
    queue = OpeningQueue(opening_limit=1)
    started: list[str] = []
    first = queue.ask("a", lambda: started.append("a"))
    queue.ask("b", lambda: started.append("b"))
    assert first is not None
    queue.opened(first)
    assert started == ["a", "b"]


def test_an_address_holds_no_more_than_its_share_until_one_is_admitted() -> None:
    queue = OpeningQueue(unadmitted_limit=2)
    started: list[int] = []
    tickets = [queue.ask("a", partial(started.append, n)) for n in range(4)]
    for ticket in tickets[:2]:
        assert ticket is not None
        queue.opened(ticket)
    assert started == [0, 1]
    assert tickets[0] is not None
    queue.release(tickets[0])
    assert started == [0, 1, 2]


def test_a_storm_from_one_address_waits_behind_itself() -> None:
    queue = OpeningQueue(opening_limit=1, unadmitted_limit=100)
    started: list[str] = []
    tickets: list[Ticket] = []

    def ask(name: str) -> None:
        ticket = queue.ask(name, lambda: started.append(name))
        assert ticket is not None
        tickets.append(ticket)

    for _ in range(50):
        ask("storm")
    ask("calm")
    queue.opened(tickets[0])
    queue.opened(tickets[1])
    assert started[:3] == ["storm", "storm", "calm"]


def test_more_than_the_limit_is_refused_instead_of_queued() -> None:
    queue = OpeningQueue(opening_limit=1, waiting_limit=1)
    assert queue.ask("a", lambda: None) is not None
    assert queue.ask("b", lambda: None) is not None
    assert queue.ask("c", lambda: None) is None


class OpeningMachine(RuleBasedStateMachine):
    """Any sequence of clients that come, open, are admitted and go."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = OpeningQueue(opening_limit=3, unadmitted_limit=2, waiting_limit=5)
        self.tickets: list[Ticket] = []
        self.started: list[str] = []

    @rule(address=st.sampled_from(ADDRESSES))
    def ask(self, address: str) -> None:
        ticket = self.queue.ask(address, lambda: self.started.append(address))
        if ticket is not None:
            self.tickets.append(ticket)

    @rule(data=st.data())
    def open(self, data: st.DataObject) -> None:
        if self.tickets:
            self.queue.opened(data.draw(st.sampled_from(self.tickets)))

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if self.tickets:
            ticket = data.draw(st.sampled_from(self.tickets))
            self.tickets.remove(ticket)
            self.queue.release(ticket)

    @invariant()
    def keeps_its_limits(self) -> None:
        opening = [ticket for ticket in self.tickets if ticket.opening]
        waiting = [ticket for ticket in self.tickets if ticket.waiting]
        assert self.queue.opening == len(opening) <= 3
        assert self.queue.waiting == len(waiting) <= 5
        for address in ADDRESSES:
            held = [
                ticket
                for ticket in self.tickets
                if ticket.address == address and not ticket.waiting
            ]
            assert len(held) <= 2

    @invariant()
    def nobody_waits_without_need(self) -> None:
        if self.queue.opening == 3:
            return
        for address in ADDRESSES:
            held = [
                ticket
                for ticket in self.tickets
                if ticket.address == address and not ticket.waiting
            ]
            waits = any(ticket.waiting and ticket.address == address for ticket in self.tickets)
            assert not waits or len(held) == 2


TestOpeningMachine = OpeningMachine.TestCase
