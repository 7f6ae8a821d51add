"""What a gateway tells of its upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from services.gateway.relay.upstream.examiner import Examiner
from services.gateway.relay.upstream.status import CROWDED_SECONDS, Status
from services.gateway.relay.upstream.upstream import CLOCK_MARGIN_MS, Upstream, UpstreamAddress
from shared.protocol.limits import SIGNED_AT_SKEW_MS
from shared.rpc.reports import UpstreamState
from shared.upstream import CLOCK, PREAUTH_LIMIT, UNREACHABLE
from tests.support.loop_budget import loop_budget

if TYPE_CHECKING:
    from tests.support.clock import FakeClock


@pytest.fixture
def upstream(clock: FakeClock) -> Upstream:
    address = UpstreamAddress.parse("ws://openclaw:18789")
    return Upstream(address, ["s" * 32], clock, loop_budget())


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


def test_sockets_refused_for_their_number_are_reported_for_a_while(
    status: Status, upstream: Upstream, clock: FakeClock
) -> None:
    upstream.failed("the upstream answers 503 Service Unavailable")
    upstream.reached()
    assert status.problems == [PREAUTH_LIMIT]
    assert status.health().warnings == (PREAUTH_LIMIT,)
    clock.advance(CROWDED_SECONDS)
    assert status.problems == []


class TestClocks:
    def test_a_clock_that_differs_is_logged_once(
        self, status: Status, upstream: Upstream, clock: FakeClock
    ) -> None:
        upstream.reached("2026.9.6")
        with capture_logs() as logs:
            for seconds in (300, 301, 305):
                upstream.reached()  # by the probe, whose answer has no time
                assert not upstream.note_clock(clock.wall_ms() + seconds * 1000)
        (line,) = logs
        assert line["event"] == "upstream.clock_differs"
        assert (line["seconds"], line["upstream_is"]) == (300, "ahead")
        assert upstream.counts.outages == 0
        differs = "its clock differs by 305 s (ahead)"
        assert status.state() == UpstreamState(
            reachable=True, version="2026.9.6", reason=differs, problems=[CLOCK]
        )
        health = status.health()
        assert health.ok
        assert (health.reason, health.warnings) == (f"OpenClaw 2026.9.6; {differs}", (CLOCK,))
        assert upstream.refuses_devices
        with capture_logs() as logs:
            assert upstream.note_clock(clock.wall_ms())
            assert upstream.note_clock(clock.wall_ms())
        assert [line["event"] for line in logs] == ["upstream.clock_agrees"]
        assert status.state() == UpstreamState(reachable=True, version="2026.9.6")
        assert not upstream.refuses_devices

    @pytest.mark.parametrize("sign", [1, -1])
    def test_the_state_does_not_flap_at_the_limit(
        self, upstream: Upstream, clock: FakeClock, sign: int
    ) -> None:
        def agrees_at(apart_ms: int) -> bool:
            return upstream.note_clock(clock.wall_ms() + sign * apart_ms)

        limit = SIGNED_AT_SKEW_MS
        assert agrees_at(limit)
        with capture_logs() as logs:
            assert not agrees_at(limit + 1)
            for apart_ms in (limit, limit + 1, limit - CLOCK_MARGIN_MS + 1):
                assert not agrees_at(apart_ms)
        assert len(logs) == 1
        assert agrees_at(limit - CLOCK_MARGIN_MS)
        assert agrees_at(limit)

    def test_an_unreachable_upstream_hides_the_difference(
        self, status: Status, upstream: Upstream, clock: FakeClock
    ) -> None:
        upstream.note_clock(clock.wall_ms() - 300_000)
        upstream.failed("connection refused")
        assert status.problems == [UNREACHABLE]
        assert status.state().reason == "connection refused"
