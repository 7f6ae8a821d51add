"""A socket that is evicted between accept and the creation of its transport."""

from __future__ import annotations

from typing import Any, cast

import pytest

from services.gateway.http.upgrade import UpgradeProtocol
from shared.protocol.limits import HANDSHAKE_DEADLINE_SECONDS
from shared.server.connection_limiter import ConnectionLimiter
from shared.server.pending_sockets import PendingSockets
from tests.support.clock import FakeClock
from tests.unit.gateway.fake_connections import FakeTransport


class Case:
    """An accepted socket whose transport does not exist yet."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.pending = PendingSockets(self.clock)
        self.transport = FakeTransport()
        nobody: Any = None
        self.protocol = UpgradeProtocol(
            "192.0.2.1",
            limiter=ConnectionLimiter(
                self.pending,
                limit=1,
                limit_per_address=1,
                trusted_proxies=(),
                count=lambda _why: None,
            ),
            pending=self.pending,
            upgrader=nobody,
            make_handler=nobody,
        )

    def connect(self) -> None:
        self.protocol.connection_made(cast("Any", self.transport))


@pytest.mark.parametrize("evicted", [False, True])
def test_it_is_aborted_as_soon_as_it_is_connected(*, evicted: bool) -> None:
    case = Case()
    assert case.pending.counts("192.0.2.1") == (1, 1)
    if evicted:
        case.clock.advance(HANDSHAKE_DEADLINE_SECONDS)
        case.pending.sweep()
        assert case.pending.counts("192.0.2.1") == (0, 0)
    case.connect()
    assert case.transport.aborts == int(evicted)


def test_a_socket_that_is_not_connected_is_not_chosen_for_eviction() -> None:
    case = Case()
    assert case.pending.evictable() is None
    case.connect()
    assert case.pending.evictable() is case.protocol
