"""Which sockets count, which are evicted, and which are rejected."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_network

from shared.protocol.limits import HANDSHAKE_DEADLINE_SECONDS
from shared.server.http_protocol import (
    KEEPALIVE_SECONDS,
    PROXY_KEEPALIVE_SECONDS,
    keepalive_seconds,
)
from shared.server.socket_limiter import FULL, FULL_FOR_ADDRESS, TRUSTED, SocketLimiter
from tests.support.clock import FakeClock

PROXY = "10.0.0.1"
HERE = "192.0.2.1"
THERE = "192.0.2.2"


class Guest:
    """A socket that records how it ended."""

    def __init__(self, _peer: str, key: str) -> None:
        self.key = key
        self.ended: bytes | None = None
        self.is_open = True

    def abort(self) -> None:
        self.ended = b""

    def reject(self, answer: bytes) -> None:
        self.ended = answer


class LimitedSockets:
    """A limiter for four sockets, two per address."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.counted: Counter[str] = Counter()
        self.websockets: list[str] = []
        self.unauthenticated: dict[str, list[object]] = {}
        self.limiter = SocketLimiter(
            self.clock,
            limit=4,
            limit_per_address=2,
            trusted_proxies=(ip_network("10.0.0.0/8"),),
            count=lambda why: self.counted.update([why]),
            websockets=self.websockets,
            unauthenticated=self.unauthenticated,
        )

    def accept(self, peer: str = HERE) -> Guest | bytes:
        """Return the new socket, or the response with which it is rejected."""
        return self.limiter.accept(Guest, peer)

    def comes(self, peer: str = HERE) -> Guest:
        """Add a socket, which must be accepted."""
        guest = self.accept(peer)
        assert isinstance(guest, Guest)
        return guest

    def asks(self, peer: str = HERE) -> Guest:
        guest = self.comes(peer)
        self.limiter.request_started(guest)
        return guest

    def idles(self, peer: str = HERE) -> Guest:
        guest = self.asks(peer)
        self.limiter.request_finished(guest)
        return guest


class TestOfOneAddress:
    def test_the_longest_silent_connection_is_evicted(self) -> None:
        sockets = LimitedSockets()
        first, second, third = (sockets.comes() for _ in range(3))
        assert (first.ended, second.ended, third.ended) == (FULL_FOR_ADDRESS, None, None)
        assert sockets.counted == {"address": 1}
        assert sockets.limiter.here == 2

    def test_no_connection_being_opened_is_evicted(self) -> None:
        sockets = LimitedSockets()
        guests = [sockets.comes() for _ in range(2)]
        guests[0].is_open = guests[1].is_open = False
        assert sockets.accept(HERE) == FULL_FOR_ADDRESS
        guests[1].is_open = True
        sockets.comes()
        assert [guest.ended for guest in guests] == [None, FULL_FOR_ADDRESS]

    def test_an_idle_connection_is_evicted(self) -> None:
        sockets = LimitedSockets()
        idle, served = sockets.idles(), sockets.asks()
        sockets.comes()
        assert (idle.ended, served.ended) == (b"", None)
        assert sockets.counted == {"idle": 1}

    def test_no_served_connection_is_evicted(self) -> None:
        sockets = LimitedSockets()
        served = [sockets.asks(), sockets.idles()]
        sockets.limiter.request_started(served[1])
        assert sockets.accept(HERE) == FULL_FOR_ADDRESS
        assert [item.ended for item in served] == [None, None]
        assert sockets.counted == {"address": 1}
        assert isinstance(sockets.accept(THERE), Guest)

    def test_unadmitted_websockets_count(self) -> None:
        sockets = LimitedSockets()
        sockets.websockets.extend([HERE, HERE])
        sockets.unauthenticated[HERE] = [object(), object()]
        assert sockets.accept(HERE) == FULL_FOR_ADDRESS
        assert isinstance(sockets.accept(THERE), Guest)

    def test_another_address_frees_no_capacity(self) -> None:
        sockets = LimitedSockets()
        elsewhere = sockets.idles(THERE)
        assert [sockets.asks() for _ in range(2)]
        assert sockets.accept(HERE) == FULL_FOR_ADDRESS
        assert elsewhere.ended is None

    def test_a_64_of_ipv6_is_one(self) -> None:
        sockets = LimitedSockets()
        guests = [sockets.comes(f"2001:db8::{number}") for number in (1, 2, 3)]
        assert [guest.ended for guest in guests] == [FULL_FOR_ADDRESS, None, None]

    def test_a_closed_connection_frees_capacity(self) -> None:
        sockets = LimitedSockets()
        first, second = sockets.idles(), sockets.asks()
        sockets.limiter.remove(first)
        sockets.limiter.remove(first)
        sockets.limiter.request_finished(first)
        sockets.asks()
        assert sockets.counted == {}
        sockets.limiter.remove(second)
        assert sockets.limiter.here == 1


class TestOfAll:
    def test_a_trusted_proxy_is_no_address(self) -> None:
        sockets = LimitedSockets()
        assert {sockets.asks(PROXY).key for _ in range(4)} == {TRUSTED}
        assert sockets.accept(PROXY) == FULL
        assert sockets.accept(HERE) == FULL
        assert sockets.counted == {"all": 2}

    def test_the_idle_go_before_the_silent(self) -> None:
        sockets = LimitedSockets()
        silent, idle = sockets.comes(PROXY), sockets.idles(PROXY)
        sockets.websockets.extend(["elsewhere", "elsewhere"])
        served = sockets.asks(THERE)
        assert (silent.ended, idle.ended) == (None, b"")
        sockets.asks(THERE)
        assert silent.ended == FULL
        assert sockets.counted == {"idle": 1, "all": 1}
        assert served.ended is None

    def test_the_address_with_the_most_loses_its_oldest_while_all_are_served(self) -> None:
        sockets = LimitedSockets()
        sockets.websockets.append("elsewhere")
        operator, served = sockets.asks(THERE), sockets.asks(THERE)
        sockets.limiter.protect(operator)
        last = sockets.asks()
        sockets.comes("192.0.2.3")
        assert (operator.ended, served.ended, last.ended) == (None, b"", None)
        assert sockets.counted == {"displaced": 1}

    def test_a_silent_socket_stays_while_another_address_has_more(self) -> None:
        """It may be that of a client whose request is about to be read."""
        sockets = LimitedSockets()
        sockets.websockets.append("elsewhere")
        silent, first, second = sockets.comes(HERE), sockets.asks(THERE), sockets.comes(THERE)
        sockets.comes("192.0.2.3")
        assert (silent.ended, first.ended, second.ended) == (None, b"", None)
        sockets.comes("192.0.2.4")
        assert (silent.ended, second.ended) == (FULL, None), "now all have as many"

    def test_an_address_with_the_most_displaces_nothing(self) -> None:
        sockets = LimitedSockets()
        sockets.websockets.extend(["elsewhere"] * 2)
        served = [sockets.asks(HERE), sockets.asks(THERE)]
        assert sockets.accept(HERE) == FULL
        assert [guest.ended for guest in served] == [None, None]
        sockets.comes("192.0.2.3")
        assert [guest.ended for guest in served] == [b"", None]

    def test_late_ones_free_capacity(self) -> None:
        sockets = LimitedSockets()
        late = [sockets.comes(PROXY) for _ in range(4)]
        sockets.clock.advance(HANDSHAKE_DEADLINE_SECONDS)
        sockets.limiter.sweep()
        assert {item.ended for item in late} == {b""}
        assert (sockets.limiter.here, len(sockets.limiter)) == (0, 0)


def test_a_proxy_may_keep_its_connections_for_longer() -> None:
    assert keepalive_seconds(HERE) == KEEPALIVE_SECONDS == 20
    assert keepalive_seconds(TRUSTED) == PROXY_KEEPALIVE_SECONDS == 75
