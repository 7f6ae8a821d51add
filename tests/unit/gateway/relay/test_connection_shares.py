"""The connections to the upstream are shared fairly: no address can keep them from others."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.gateway.relay.rules.connection_shares import HELD_SECONDS, ConnectionShares, Use

ADDRESSES = ["198.51.100.1", "198.51.100.2", "2001:db8::/64"]
LIMIT = 4
LATER = HELD_SECONDS


def keys(uses: list[Use]) -> list[str]:
    return [use.key for use in uses]


def filled(*addresses: str) -> tuple[ConnectionShares, list[Use]]:
    """Return shares whose connections are all in use since time 0."""
    shares = ConnectionShares(len(addresses))
    uses = []
    for address in addresses:
        uses.append(shares.enter(address))
        assert shares.settle(0) == (uses[-1:], [])
    return shares, uses


def test_a_request_gets_a_free_connection_at_once() -> None:
    shares = ConnectionShares(1)
    first, second = shares.enter("a"), shares.enter("a")
    assert shares.settle(0) == ([first], [])
    shares.leave(first)
    assert shares.settle(1) == ([second], [])


def test_the_address_with_the_most_connections_loses_its_oldest() -> None:
    shares, uses = filled("b", "a", "a", "a")
    newcomer = shares.enter("c")
    assert shares.settle(LATER) == ([newcomer], [uses[1]])


def test_a_request_that_has_just_begun_is_not_disturbed() -> None:
    shares, uses = filled("a", "a")
    newcomer = shares.enter("b")
    assert shares.settle(LATER - 0.01) == ([], [])
    assert shares.settle(LATER) == ([newcomer], [uses[0]])


def test_an_address_does_not_end_up_with_more_than_the_one_it_displaces() -> None:
    shares, _ = filled("a", "a", "b")
    shares.enter("a")
    shares.enter("b")
    assert shares.settle(LATER) == ([], [])


def test_a_newcomer_displaces_the_oldest_of_equals() -> None:
    shares, uses = filled("a", "b")
    newcomer = shares.enter("c")
    assert shares.settle(LATER) == ([newcomer], [uses[0]])


def test_an_address_that_may_not_displace_does_not_delay_one_that_may() -> None:
    shares, uses = filled("a", "a")
    shares.enter("a")
    newcomer = shares.enter("b")
    assert shares.settle(LATER) == ([newcomer], [uses[0]])


def test_addresses_take_turns() -> None:
    shares, uses = filled("a")
    for address in "aaabb":
        shares.enter(address)
    served = []
    (running,) = uses
    for _ in range(5):
        shares.leave(running)
        (running,), displaced = shares.settle(0)
        assert not displaced
        served.append(running.key)
    assert served == ["a", "b", "a", "b", "a"]


def test_a_displaced_request_leaves_only_once() -> None:
    shares, uses = filled("a", "a")
    shares.enter("b")
    shares.settle(LATER)
    shares.leave(uses[0])
    assert shares.using == 2


class Sharing(RuleBasedStateMachine):
    """Requests come and go in any order, and time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.shares = ConnectionShares(LIMIT)
        self.now = 0.0
        self.using: list[Use] = []
        self.waiting: list[Use] = []

    @rule(address=st.sampled_from(ADDRESSES))
    def enter(self, address: str) -> None:
        self.waiting.append(self.shares.enter(address))
        self.settle()

    @precondition(lambda self: self.using or self.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        use = data.draw(st.sampled_from([*self.using, *self.waiting]))
        (self.using if use in self.using else self.waiting).remove(use)
        self.shares.leave(use)
        self.settle()

    @rule(seconds=st.sampled_from([0.1, 1.0, HELD_SECONDS]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.settle()

    def settle(self) -> None:
        before = list(self.using)
        started, displaced = self.shares.settle(self.now)
        for use in displaced:
            assert use in before
            assert self.now - (use.since or 0.0) >= HELD_SECONDS
            self.using.remove(use)
        for use in started:
            self.waiting.remove(use)
            self.using.append(use)
        assert not displaced or len(self.using) == LIMIT

    def count(self, address: str) -> int:
        return keys(self.using).count(address)

    @invariant()
    def connections_are_bounded(self) -> None:
        assert self.shares.using == len(self.using) <= LIMIT

    @invariant()
    def no_connection_is_idle_while_one_waits(self) -> None:
        assert self.shares.is_waiting == bool(self.waiting)
        assert not self.waiting or len(self.using) == LIMIT

    @invariant()
    def nobody_waits_for_an_old_one_of_an_address_with_more(self) -> None:
        old = [use for use in self.using if self.now - (use.since or 0.0) >= HELD_SECONDS]
        most = max((self.count(use.key) for use in old), default=0)
        for use in self.waiting:
            own = self.count(use.key)
            assert own + 1 >= most
            assert own or not old


TestSharing = Sharing.TestCase
