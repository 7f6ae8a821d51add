"""In which order plain HTTP requests start, which of them give way, and which take too long."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from shared.server.http_protocol import busy_response
from shared.server.known_operators import REMEMBER_SECONDS, Rank
from shared.server.plain_limits import WAIT_SECONDS, PlainLimits
from shared.server.plain_requests import DISPLACE_AFTER_SECONDS, STARTS_PER_TURN, PlainRequests
from shared.server.unread_responses import PROGRESS_BYTES, UNREAD_LIMIT_BYTES
from tests.support.clock import FakeClock, turns

if TYPE_CHECKING:
    from shared.server.plain_requests import Ticket

HERE = "192.0.2.1"
THERE = "192.0.2.2"
BEARER = {"Authorization": "Bearer right"}


class Socket:
    """A socket that records how it ended."""

    def __init__(self) -> None:
        self.ended = ""
        self.expects_body = False
        self.received_bytes = 0
        self.unread_bytes = 0

    def abort(self) -> None:
        self.ended = "aborted"

    def stalled_body(self) -> None:
        self.ended = "408"


class Scheduler:
    """A scheduler with these limits, and what it dropped."""

    def __init__(self, limit: int = 4, per_address: int = 2) -> None:
        self.clock = FakeClock()
        self.dropped: Counter[str] = Counter()
        self.limits = PlainLimits(limit, per_address, 20.0)
        self.requests = PlainRequests(
            self.clock,
            limits=self.limits,
            count=lambda why: self.dropped.update([why]),
            refusal=busy_response,
        )

    def enter(
        self, key: str = HERE, rank: Rank = Rank.ANONYMOUS, *, large_body: bool = False
    ) -> Ticket:
        return self.requests.enter(Socket(), key, rank, large_body=large_body)

    async def wait(self, seconds: float) -> None:
        """Let time pass, and look for what took too long."""
        self.clock.advance(seconds)
        self.requests.sweep()
        await turns()


def state(ticket: Ticket) -> str:
    """Return what became of a request."""
    if ticket.running:
        return "running"
    if ticket.waiting:
        return "waiting"
    return "refused" if ticket.refused else "ended"


def states(tickets: list[Ticket]) -> list[str]:
    return [state(ticket) for ticket in tickets]


class TestTurns:
    async def test_a_limited_number_start_in_one_turn_of_the_loop(self) -> None:
        made = Scheduler(limit=100, per_address=100)
        tickets = [made.enter() for _ in range(3 * STARTS_PER_TURN)]
        assert states(tickets).count("running") == STARTS_PER_TURN
        await turns(1)
        assert states(tickets).count("running") == 2 * STARTS_PER_TURN
        await turns(1)
        assert states(tickets).count("running") == 3 * STARTS_PER_TURN
        assert made.requests.waiting == 0

    async def test_addresses_take_turns(self) -> None:
        made = Scheduler(limit=100, per_address=100)
        for _ in range(10 * STARTS_PER_TURN):
            made.enter()
        late = made.enter(THERE)
        await turns(1)
        assert state(late) == "running"

    async def test_health_checks_and_operators_start_first_but_not_alone(self) -> None:
        made = Scheduler(limit=100, per_address=100)
        for _ in range(STARTS_PER_TURN):
            made.enter()
        waiting = {rank: [made.enter(rank=rank) for _ in range(STARTS_PER_TURN)] for rank in Rank}
        await turns(1)
        started = {rank: states(tickets).count("running") for rank, tickets in waiting.items()}
        assert started == {Rank.HEALTH: 3, Rank.OPERATOR: 3, Rank.ANONYMOUS: 2}

    async def test_a_closed_socket_leaves_the_line(self) -> None:
        made = Scheduler(limit=1)
        first, second, third = (made.enter(key) for key in (HERE, THERE, "192.0.2.3"))
        made.requests.leave(second)
        assert (state(second), made.requests.waiting) == ("refused", 1)
        made.requests.leave(first)
        await turns(1)
        assert state(third) == "running"


class TestLimits:
    async def test_an_address_has_a_limited_number_in_progress(self) -> None:
        made = Scheduler()
        tickets = [made.enter() for _ in range(3)]
        await turns()
        assert states(tickets) == ["running", "running", "waiting"]
        assert state(made.enter(THERE)) == "running"
        made.requests.leave(tickets[0])
        await turns()
        assert states(tickets) == ["ended", "running", "running"]
        assert made.dropped == {}

    async def test_health_checks_need_no_place(self) -> None:
        made = Scheduler(limit=1, per_address=1)
        tickets = [made.enter(), made.enter(rank=Rank.HEALTH), made.enter(rank=Rank.HEALTH)]
        assert states(tickets) == ["running"] * 3

    async def test_the_address_with_the_most_gives_way(self) -> None:
        made = Scheduler()
        kept = made.enter("192.0.2.3")
        tickets = [made.enter(), made.enter(), made.enter("192.0.2.4")]
        late = made.enter(THERE)
        await turns()
        assert states([kept, *tickets, late]) == [
            *("running", "ended", "running", "running", "running")
        ]
        assert made.dropped == {"displaced": 1}

    async def test_addresses_with_equal_shares_do_not_give_way_until_they_are_old(self) -> None:
        made = Scheduler(limit=2)
        first, second, late = made.enter("192.0.2.3"), made.enter("192.0.2.4"), made.enter(THERE)
        await made.wait(DISPLACE_AFTER_SECONDS - 0.1)
        assert states([first, second, late]) == ["running", "running", "waiting"]
        await made.wait(0.1)
        assert states([first, second, late]) == ["ended", "running", "running"]

    async def test_operators_do_not_give_way(self) -> None:
        made = Scheduler(limit=2)
        operators = [made.enter(), made.enter()]
        for ticket in operators:
            made.requests.protect(ticket)
        late = made.enter(THERE)
        await made.wait(WAIT_SECONDS - 0.1)
        assert states([*operators, late]) == ["running", "running", "waiting"]
        await made.wait(0.1)
        assert state(late) == "refused"
        assert made.dropped == {"waited": 1}

    async def test_an_operator_displaces_an_anonymous_request_of_the_same_address(self) -> None:
        made = Scheduler()
        strangers = [made.enter(), made.enter()]
        operator = made.enter(rank=Rank.OPERATOR)
        await turns()
        assert states([*strangers, operator]) == ["ended", "running", "running"]

    async def test_an_anonymous_large_body_does_not_wait(self) -> None:
        made = Scheduler(limit=1)
        made.enter()
        assert state(made.enter(THERE, large_body=True)) == "refused"
        assert state(made.enter(THERE, Rank.OPERATOR, large_body=True)) == "waiting"
        assert made.dropped == {"body": 1}


class TestOperators:
    async def test_the_next_requests_with_these_credentials_come_first(self) -> None:
        made = Scheduler()
        rank_of = made.requests.operators.rank_of
        assert rank_of(HERE, BEARER) is Rank.ANONYMOUS
        made.requests.operators.remember(HERE, BEARER)
        assert rank_of(HERE, BEARER) is Rank.OPERATOR
        assert rank_of(HERE, {"Authorization": "Bearer wrong"}) is Rank.ANONYMOUS
        assert rank_of(HERE, {}) is Rank.ANONYMOUS
        assert rank_of(THERE, BEARER) is Rank.ANONYMOUS
        made.clock.advance(REMEMBER_SECONDS)
        assert rank_of(HERE, BEARER) is Rank.ANONYMOUS

    async def test_a_lock_out_ends_it(self) -> None:
        made = Scheduler()
        operators = made.requests.operators
        operators.remember(HERE, BEARER)
        operators.remember(THERE, BEARER)
        operators.forget(HERE)
        assert operators.rank_of(HERE, BEARER) is Rank.ANONYMOUS
        assert operators.rank_of(THERE, BEARER) is Rank.OPERATOR


class TestDeadlines:
    async def test_a_body_must_arrive(self) -> None:
        made = Scheduler()
        slow, done = Socket(), Socket()
        slow.expects_body = True
        for socket in (slow, done):
            made.requests.enter(socket, HERE, Rank.ANONYMOUS, large_body=True)
        await made.wait(made.limits.stall_seconds - 0.1)
        slow.received_bytes += PROGRESS_BYTES
        await made.wait(0.1)
        assert slow.ended == ""
        slow.received_bytes += PROGRESS_BYTES - 1
        await made.wait(made.limits.stall_seconds)
        assert (slow.ended, done.ended) == ("408", "")
        assert made.requests.in_progress == 1
        assert made.dropped == {"body": 1}

    async def test_a_response_must_be_read(self) -> None:
        made = Scheduler()
        slow, gone = Socket(), Socket()
        slow.unread_bytes = gone.unread_bytes = 3 * PROGRESS_BYTES
        made.requests.unread.paused(slow)
        made.requests.unread.paused(gone)
        made.requests.unread.resumed(gone)
        slow.unread_bytes -= PROGRESS_BYTES
        await made.wait(made.limits.stall_seconds)
        assert slow.ended == ""
        slow.unread_bytes -= PROGRESS_BYTES - 1
        await made.wait(made.limits.stall_seconds)
        assert (slow.ended, gone.ended) == ("aborted", "")
        assert made.dropped == {"unread": 1}

    async def test_connections_with_the_most_unread_bytes_are_closed(self) -> None:
        made = Scheduler()
        sockets = [Socket() for _ in range(3)]
        for socket, part in zip(sockets, (2, 4, 3), strict=True):
            socket.unread_bytes = UNREAD_LIMIT_BYTES // part
            made.requests.unread.paused(socket)
        assert made.requests.unread.bytes > UNREAD_LIMIT_BYTES
        await made.wait(0)
        assert [socket.ended for socket in sockets] == ["aborted", "", ""]
