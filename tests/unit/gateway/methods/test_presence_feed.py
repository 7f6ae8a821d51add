"""When the list of connected devices is fetched and sent: soon, and never too often."""

from __future__ import annotations

import asyncio
import json
import zlib
from typing import TYPE_CHECKING

from services.gateway.methods.presence_feed import (
    BYTES_PER_SECOND,
    MAX_FETCH_SHARE,
    MIN_INTERVAL_SECONDS,
    PresenceFeed,
)
from shared.bus.errors import Unavailable
from shared.rpc.messages import CallerInfo, Error, Position, Result
from tests.support.clock import FakeClock, run_virtual, turns
from tests.unit.gateway.fake_connections import FakeSessions, closes, texts

if TYPE_CHECKING:
    from services.gateway.approval.client import Then
    from services.gateway.connections.connection import Connection
    from shared.rpc.messages import AuthorizeDevice, Call, Outcome, ReportSecret

READ = "operator.read"
ENTRIES = b'[{"host":"a","ts":1}]'


class TimedApprovals:
    """Approval with delayed answers."""

    def __init__(self) -> None:
        self.asked: list[Call] = []
        self.outcome: Outcome | Exception = Result(Position(), ENTRIES)
        self.seconds = 0.0

    def request(self, question: AuthorizeDevice | ReportSecret, then: Then) -> None:
        """Fail: no client is admitted here."""
        raise AssertionError(question, then)

    async def call(self, call: Call) -> Outcome:
        """Record the call, and answer after the delay."""
        self.asked.append(call)
        await asyncio.sleep(self.seconds)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def require_lease(self) -> None:
        """Fail: no client is admitted here."""
        raise AssertionError


class FeedCase:
    """A PresenceFeed and its listeners, in virtual time."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.sessions = FakeSessions()
        self.approvals = TimedApprovals()
        self.roster = PresenceFeed("boot", self.approvals, self.sessions.connections, clock)

    def reader(self) -> Connection:
        """Admit a client with the read scope."""
        return self.sessions.enter(READ)

    async def beats(self, version: int, seconds: float = 0.0) -> None:
        """Notify the feed as heartbeats do, four times a second for this long."""
        self.roster.on_version(version)
        await turns()
        for _ in range(round(seconds / 0.25)):
            await asyncio.sleep(0.25)
            self.roster.on_version(version)
            await turns()


def versions(connection: Connection) -> list[int]:
    """Return the versions of presence that a connection received."""
    return [message["stateVersion"]["presence"] for message in texts(connection)]


class TestTold:
    def test_each_new_version_is_sent_once(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = FeedCase(clock)
            one, other = case.reader(), case.sessions.enter("operator.pairing")
            await case.beats(5, seconds=10)
            assert versions(one) == [5]
            assert texts(one)[0]["payload"] == {"presence": json.loads(ENTRIES)}
            assert texts(other) == []
            await case.beats(6, seconds=3)
            assert versions(one) == [5, 6]

        run_virtual(scenario)

    def test_the_gateway_asks_for_itself_with_no_more_than_it_needs(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = FeedCase(clock)
            case.reader()
            await case.beats(1)
            await case.beats(2, seconds=3)
            first, second = case.approvals.asked
            assert first.caller == CallerInfo("gateway", "gateway boot", "operator", [READ])
            assert (first.method, first.params) == ("system-presence", {})
            assert first.call_id != second.call_id

        run_virtual(scenario)

    def test_a_long_list_comes_packed(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = FeedCase(clock)
            reader = case.reader()
            case.approvals.outcome = Result(Position(), zlib.compress(ENTRIES), packed=True)
            await case.beats(1)
            assert texts(reader)[0]["payload"] == {"presence": json.loads(ENTRIES)}

        run_virtual(scenario)

    def test_nothing_is_fetched_without_listeners(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = FeedCase(clock)
            case.sessions.enter("operator.pairing")
            await case.beats(1, seconds=5)
            assert case.approvals.asked == []
            reader = case.reader()
            await case.beats(1)
            assert versions(reader) == [1], "later clients get it with the next heartbeat"

        run_virtual(scenario)

    def test_changes_during_an_outage_are_sent_after_it(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = FeedCase(clock)
            reader = case.reader()
            for outage in (Unavailable("timeout"), Error("FORBIDDEN", "no")):
                case.approvals.outcome = outage
                await case.beats(1, seconds=1)
                assert texts(reader) == []
            case.approvals.outcome = Result(Position(), ENTRIES)
            await case.beats(1)
            assert versions(reader) == [1]

        run_virtual(scenario)

    def test_nothing_is_sent_without_a_lease(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = FeedCase(clock)
            reader = case.reader()
            case.sessions.leased = lambda: False
            await case.beats(1, seconds=1)
            assert (texts(reader), closes(reader)) == ([], [(1013, "approval unavailable")])

        run_virtual(scenario)


class TestPace:
    def test_broadcasts_are_at_least_an_interval_apart(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = FeedCase(clock)
            reader = case.reader()
            for version in range(1, 41):
                await case.beats(version, seconds=0.25)
            assert len(texts(reader)) == 10 / MIN_INTERVAL_SECONDS + 1
            assert versions(reader) == sorted(set(versions(reader)))

        run_virtual(scenario)

    def test_the_longer_and_the_more_listen_the_rarer(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = FeedCase(clock)
            listeners = [case.reader() for _ in range(4)]
            case.approvals.outcome = Result(Position(), b'["%s"]' % (b"x" * BYTES_PER_SECOND))
            for version in range(1, 41):
                await case.beats(version, seconds=0.25)
            assert {len(texts(listener)) for listener in listeners} == {3}

        run_virtual(scenario)

    def test_a_slow_fetch_is_rarer_and_alone(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = FeedCase(clock)
            reader = case.reader()
            case.approvals.seconds = 0.5
            for version in range(1, 81):
                await case.beats(version, seconds=0.25)
            maximum = 20 * MAX_FETCH_SHARE / 0.5 + 1
            assert 2 <= len(case.approvals.asked) <= maximum
            assert len(texts(reader)) >= 2

        run_virtual(scenario)


class TestStop:
    def test_gives_up_what_is_under_way(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = FeedCase(clock)
            reader = case.reader()
            case.approvals.seconds = 60
            await case.beats(1)
            await case.roster.stop()
            assert texts(reader) == []
            await FeedCase(clock).roster.stop()

        run_virtual(scenario)
