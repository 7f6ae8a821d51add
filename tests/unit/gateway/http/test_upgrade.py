"""A socket that is evicted between accept and the creation of its transport."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import pytest

from services.gateway.http.upgrade import UpgradeProtocol
from shared.protocol.limits import HANDSHAKE_DEADLINE_SECONDS
from shared.server.socket_limiter import FULL, FULL_FOR_ADDRESS, SocketLimiter
from tests.support.clock import FakeClock
from tests.unit.gateway.fake_connections import FakeTransport


class HttpTransport(FakeTransport):
    """Records responses."""

    def __init__(self) -> None:
        super().__init__()
        self.responses: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.responses.append(data)


class Case:
    """An accepted socket whose transport does not exist yet."""

    def __init__(self, *, limit_per_address: int = 1) -> None:
        self.clock = FakeClock()
        self.limiter = SocketLimiter(
            self.clock,
            limit=1,
            limit_per_address=limit_per_address,
            trusted_proxies=(),
            count=lambda _why: None,
        )
        self.transport = HttpTransport()
        accepted = self.accept()
        assert isinstance(accepted, UpgradeProtocol)
        self.protocol = accepted

    def accept(self) -> UpgradeProtocol | bytes:
        nobody: Any = None
        make = partial(UpgradeProtocol, limiter=self.limiter, upgrader=nobody, make_handler=nobody)
        return self.limiter.accept(make, "192.0.2.1")

    def connect(self) -> None:
        self.protocol.connection_made(cast("Any", self.transport))


@pytest.mark.parametrize("evicted", [False, True])
def test_it_is_aborted_as_soon_as_it_is_connected(*, evicted: bool) -> None:
    case = Case()
    assert (case.limiter.here, len(case.limiter)) == (1, 1)
    if evicted:
        case.clock.advance(HANDSHAKE_DEADLINE_SECONDS)
        case.limiter.sweep()
        assert (case.limiter.here, len(case.limiter)) == (0, 0)
    case.connect()
    assert case.transport.aborts == int(evicted)


@pytest.mark.parametrize(("limit_per_address", "refusal"), [(1, FULL_FOR_ADDRESS), (2, FULL)])
def test_a_socket_that_is_not_connected_is_not_chosen_for_eviction(
    limit_per_address: int, refusal: bytes
) -> None:
    case = Case(limit_per_address=limit_per_address)
    assert case.accept() == refusal
    case.connect()
    assert isinstance(case.accept(), UpgradeProtocol)
    assert case.protocol not in case.limiter
    assert case.transport.responses == [refusal]
    assert case.transport.closing
