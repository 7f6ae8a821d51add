"""Upgrades for which the loop has no time wait, are turned away, or leave."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest

from services.gateway.http.upgrade import UpgradeProtocol
from shared.server.loop_budget import Lane, LoopBudget
from shared.server.socket_limiter import SocketLimiter
from shared.server.upgrade_limit import (
    GIVEN_UP_MAX,
    LASTING_WAIT_SECONDS,
    UPGRADES_MAX,
    VIABLE_MIN_SECONDS,
    WAIT_SECONDS,
)
from tests.support.clock import FakeClock
from tests.support.websocket.raw_socket import upgrade_bytes
from tests.unit.gateway.http.test_upgrade import HttpTransport

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD = upgrade_bytes(80)
LIKE_HEALTH = HEAD.replace(b"GET /", b"GET /livez/", 1)


class Transport(HttpTransport):
    """May change its protocol."""

    def set_protocol(self, _protocol: asyncio.BaseProtocol) -> None: ...


class Upgraded(asyncio.Protocol):
    """What a socket becomes."""

    def __init__(self) -> None:
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data


class Case:
    """An upgrader whose loop has no time for upgrades until the next turn."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.scheduled: list[Callable[[], None]] = []
        self.budget = LoopBudget(self.scheduled.append, self.clock.monotonic)
        self.limiter = SocketLimiter(
            self.clock, limit=10, limit_per_address=10, trusted_proxies=(), count=lambda _why: None
        )
        self.unfiltered = (b"GET /livez", b"HEAD /livez")
        self.upgraded: list[Upgraded] = []
        self.turned_away = 0
        began = self.budget.begin(Lane.UPGRADES)
        self.budget.end(Lane.UPGRADES, began - 1.0)

    def upgrade(self, _transport: object, _peer: str, head: bytes) -> Upgraded:
        assert head == HEAD
        self.upgraded.append(Upgraded())
        return self.upgraded[-1]

    def on_turned_away(self) -> None:
        self.turned_away += 1

    def socket(self) -> tuple[UpgradeProtocol, Transport]:
        def make(peer: str, key: str) -> UpgradeProtocol:
            nobody: Any = None
            upgrader = cast("Any", self)
            return UpgradeProtocol(
                peer, key, limiter=self.limiter, upgrader=upgrader, make_handler=nobody
            )

        protocol, transport = self.limiter.accept(make, "192.0.2.1"), Transport()
        assert isinstance(protocol, UpgradeProtocol)
        protocol.connection_made(cast("Any", transport))
        return protocol, transport

    def turn(self) -> None:
        scheduled = self.scheduled[:]
        self.scheduled.clear()
        for run in scheduled:
            run()


@pytest.fixture
def case() -> Case:
    return Case()


def test_it_is_upgraded_in_a_later_turn_with_all_that_came(case: Case) -> None:
    protocol, _ = case.socket()
    protocol.data_received(HEAD[:20])
    protocol.data_received(HEAD[20:] + b"fra")
    protocol.data_received(b"me")
    assert not case.upgraded
    case.turn()
    assert [socket.received for socket in case.upgraded] == [b"frame"]
    assert case.limiter.here == 0


def test_it_costs_nothing_once_its_client_has_left(case: Case) -> None:
    protocol, _ = case.socket()
    protocol.data_received(HEAD)
    assert case.budget.waiting(Lane.UPGRADES) == 1
    protocol.connection_lost(None)
    assert case.budget.waiting(Lane.UPGRADES) == 0
    case.turn()
    assert not case.upgraded
    assert case.limiter.here == 0


def test_one_that_sends_on_and_on_is_aborted(case: Case) -> None:
    protocol, transport = case.socket()
    protocol.data_received(HEAD)
    protocol.data_received(b"x" * 32 * 1024)
    assert transport.aborts == 1


def test_one_that_waited_too_long_is_turned_away(case: Case) -> None:
    protocol, transport = case.socket()
    protocol.data_received(HEAD)
    case.clock.advance(WAIT_SECONDS + 0.1)
    case.turn()
    (response,) = transport.responses
    assert response.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: " in response
    assert transport.closing
    assert case.turned_away == 1
    assert not case.upgraded


def test_an_upgrade_that_passes_the_filter_as_a_health_check_never_waits(case: Case) -> None:
    protocol, transport = case.socket()
    protocol.data_received(LIKE_HEALTH[:10])
    protocol.data_received(LIKE_HEALTH[10:])
    assert case.budget.waiting(Lane.UPGRADES) == 0
    assert case.turned_away == 1
    assert transport.closing


@pytest.mark.parametrize(
    ("close", "turned_away"),
    [(None, 1), (UpgradeProtocol.abort, 0), (partial(UpgradeProtocol.reject, answer=b""), 0)],
)
def test_clients_that_give_up_shorten_the_wait_but_displaced_ones_do_not(
    case: Case, close: Callable[[UpgradeProtocol], None] | None, turned_away: int
) -> None:
    sockets = [case.socket()[0] for _ in range(round(GIVEN_UP_MAX) + 1)]
    for protocol in sockets:
        protocol.data_received(HEAD)
    case.clock.advance(LASTING_WAIT_SECONDS + 0.1)
    for protocol in sockets[1:]:
        if close is not None:
            close(protocol)
        protocol.connection_lost(None)
    assert case.budget.waiting(Lane.UPGRADES) == 1
    case.clock.advance(VIABLE_MIN_SECONDS)
    case.turn()
    assert case.turned_away == turned_away
    assert len(case.upgraded) == 1 - turned_away


def test_one_too_many_is_turned_away_at_once(case: Case) -> None:
    class Other:
        def run_slice(self, *, overdue: bool) -> bool:
            raise AssertionError

    for _ in range(UPGRADES_MAX):
        case.budget.wait(Lane.UPGRADES, Other())
    protocol, transport = case.socket()
    protocol.data_received(HEAD)
    assert case.turned_away == 1
    assert transport.closing
    assert case.budget.waiting(Lane.UPGRADES) == UPGRADES_MAX
