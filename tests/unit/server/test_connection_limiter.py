"""Which sockets count, which are evicted, and which are rejected."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_network

from shared.protocol.limits import HANDSHAKE_DEADLINE_SECONDS
from shared.server.connection_limiter import FULL, FULL_FOR_ADDRESS, TRUSTED, ConnectionLimiter
from shared.server.http_protocol import (
    KEEPALIVE_SECONDS,
    PROXY_KEEPALIVE_SECONDS,
    keepalive_seconds,
)
from shared.server.pending_sockets import PendingSockets
from tests.support.clock import FakeClock

PROXY = "10.0.0.1"
HERE = "192.0.2.1"
THERE = "192.0.2.2"


class Guest:
    """A socket that notes how it ended."""

    def __init__(self) -> None:
        self.ended: bytes | None = None
        self.is_open = True

    def abort(self) -> None:
        self.ended = b""

    def reject(self, answer: bytes) -> None:
        self.ended = answer


class House:
    """A room for four sockets, two of one address; `others` are taken up by WebSockets."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.arrivals = PendingSockets(self.clock)
        self.counted: Counter[str] = Counter()
        self.others: Counter[str] = Counter()
        self.room = ConnectionLimiter(
            self.arrivals,
            limit=4,
            limit_per_address=2,
            trusted_proxies=(ip_network("10.0.0.0/8"),),
            count=lambda why: self.counted.update([why]),
            others=self.others.total,
            others_of=lambda key: self.others[key],
        )

    def comes(self, peer: str = HERE) -> Guest:
        """Let one come, which has to be let in."""
        assert self.room.refusal(peer) is None
        guest = Guest()
        self.arrivals.add(guest, self.room.key(peer))
        return guest

    def asks(self, peer: str = HERE) -> Guest:
        guest = self.comes(peer)
        self.arrivals.request_started(guest)
        return guest

    def idles(self, peer: str = HERE) -> Guest:
        guest = self.asks(peer)
        self.arrivals.request_finished(guest)
        return guest


class TestOfOneAddress:
    def test_who_is_silent_for_longest_makes_room(self) -> None:
        house = House()
        first, second, third = (house.comes() for _ in range(3))
        assert (first.ended, second.ended, third.ended) == (FULL_FOR_ADDRESS, None, None)
        assert house.counted == {"address": 1}
        assert house.arrivals.here == 2

    def test_nobody_makes_room_who_is_not_open_yet(self) -> None:
        house = House()
        guests = [house.comes() for _ in range(2)]
        guests[0].is_open = guests[1].is_open = False
        assert house.room.refusal(HERE) == FULL_FOR_ADDRESS
        guests[1].is_open = True
        house.comes()
        assert [one.ended for one in guests] == [None, FULL_FOR_ADDRESS]

    def test_who_is_idle_makes_room(self) -> None:
        house = House()
        idle, served = house.idles(), house.asks()
        house.comes()
        assert (idle.ended, served.ended) == (b"", None)
        assert house.counted == {"idle": 1}

    def test_nobody_makes_room_who_is_served(self) -> None:
        house = House()
        served = [house.asks(), house.idles()]
        house.arrivals.request_started(served[1])
        assert house.room.refusal(HERE) == FULL_FOR_ADDRESS
        assert [one.ended for one in served] == [None, None]
        assert house.counted == {"address": 1}
        assert house.room.refusal(THERE) is None

    def test_websockets_that_are_not_let_in_count(self) -> None:
        house = House()
        house.others[HERE] = 2
        assert house.room.refusal(HERE) == FULL_FOR_ADDRESS
        assert house.room.refusal(THERE) is None

    def test_another_address_makes_no_room(self) -> None:
        house = House()
        elsewhere = house.idles(THERE)
        assert [house.asks() for _ in range(2)]
        assert house.room.refusal(HERE) == FULL_FOR_ADDRESS
        assert elsewhere.ended is None

    def test_a_64_of_ipv6_is_one(self) -> None:
        house = House()
        guests = [house.comes(f"2001:db8::{number}") for number in (1, 2, 3)]
        assert [one.ended for one in guests] == [FULL_FOR_ADDRESS, None, None]

    def test_who_has_left_leaves_room(self) -> None:
        house = House()
        first, second = house.idles(), house.asks()
        house.arrivals.remove(first)
        house.arrivals.remove(first)
        house.arrivals.request_finished(first)
        house.asks()
        assert house.counted == {}
        house.arrivals.remove(second)
        assert house.arrivals.count(HERE) == 1


class TestOfAll:
    def test_a_trusted_proxy_is_no_address(self) -> None:
        house = House()
        for _ in range(4):
            house.asks(PROXY)
        assert house.room.key(PROXY) == TRUSTED
        assert house.room.refusal(PROXY) == FULL
        assert house.room.refusal(HERE) == FULL
        assert house.counted == {"all": 2}

    def test_the_idle_go_before_the_silent(self) -> None:
        house = House()
        silent, idle = house.comes(PROXY), house.idles(PROXY)
        house.others["elsewhere"] = 2
        house.asks(THERE)
        assert (silent.ended, idle.ended) == (None, b"")
        house.asks(THERE)
        assert silent.ended == FULL
        assert house.counted == {"idle": 1, "all": 1}
        assert house.room.refusal(PROXY) == FULL

    def test_the_late_leave_room(self) -> None:
        house = House()
        late = [house.comes(PROXY) for _ in range(4)]
        house.clock.advance(HANDSHAKE_DEADLINE_SECONDS)
        house.arrivals.sweep()
        assert {one.ended for one in late} == {b""}
        assert (house.arrivals.here, len(house.arrivals)) == (0, 0)


def test_a_proxy_may_keep_its_connections_for_longer() -> None:
    assert keepalive_seconds(HERE) == KEEPALIVE_SECONDS == 20
    assert keepalive_seconds(TRUSTED) == PROXY_KEEPALIVE_SECONDS == 75
