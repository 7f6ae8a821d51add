"""What a gateway tells of its upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.gateway.relay.upstream.examiner import Examiner
from services.gateway.relay.upstream.status import CROWDED_SECONDS, Status
from services.gateway.relay.upstream.upstream import Upstream, UpstreamAddress
from shared.rpc.reports import UpstreamState
from shared.upstream import PREAUTH_LIMIT, UNREACHABLE

if TYPE_CHECKING:
    from tests.support.clock import FakeClock


@pytest.fixture
def upstream(clock: FakeClock) -> Upstream:
    return Upstream(UpstreamAddress.parse("ws://openclaw:18789"), ["s" * 32], clock)


@pytest.fixture
def status(upstream: Upstream, clock: FakeClock) -> Status:
    return Status(upstream, Examiner(upstream, "1", []), clock)


def test_it_is_well_until_something_else_is_known(status: Status) -> None:
    assert status.state() == UpstreamState(reachable=True)
    assert status.health().ok


def test_an_outage_says_why_for_how_long_and_what_was_there(
    status: Status, upstream: Upstream, clock: FakeClock
) -> None:
    upstream.reached("2026.9.6")
    upstream.failed("connection refused")
    clock.advance(7)
    assert status.state() == UpstreamState(
        reachable=False,
        version="2026.9.6",
        reason="connection refused",
        down_s=7,
        problems=[UNREACHABLE],
    )
    health = status.health()
    assert not health.ok
    assert not health.needed
    assert health.reason == "connection refused, for 7 s, before that it was OpenClaw 2026.9.6"
    upstream.reached()
    assert status.health().reason == "OpenClaw 2026.9.6"


def test_sockets_refused_for_their_number_are_told_of_for_a_while(
    status: Status, upstream: Upstream, clock: FakeClock
) -> None:
    upstream.failed("the upstream answers 503 Service Unavailable")
    upstream.reached()
    assert status.problems == [PREAUTH_LIMIT]
    assert status.health().warnings == (PREAUTH_LIMIT,)
    clock.advance(CROWDED_SECONDS)
    assert status.problems == []
