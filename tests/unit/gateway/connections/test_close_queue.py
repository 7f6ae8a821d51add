"""Closing many connections serves none of them any more and does not block the event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from services.gateway.connections.close_queue import CLOSED_PER_TURN, ENDED_PER_TURN
from services.gateway.connections.deadlines import SWEEP_SECONDS
from shared.protocol.events import Broadcast
from tests.support.clock import turns
from tests.unit.gateway.fake_connections import DEVICE_ID, FakeSessions, closes, texts, transport_of

if TYPE_CHECKING:
    from services.gateway.connections.connection import Connection

REMOVED = (4001, "device removed")
LEASE_LOST = (1013, "approval unavailable")
EVERYBODY = Broadcast("tick", b"{}", None)
CROWD = 3 * CLOSED_PER_TURN + 1


@pytest.fixture
def sessions() -> FakeSessions:
    return FakeSessions(limit=2 * CROWD)


def closes_sent(crowd: list[Connection]) -> int:
    """Return how many close frames were sent."""
    return sum(bool(closes(client)) for client in crowd)


def unread(crowd: list[Connection]) -> int:
    """Return how many are currently not read."""
    return sum(transport_of(client).paused for client in crowd)


def aborts(crowd: list[Connection]) -> int:
    """Return how many sockets were aborted."""
    return sum(transport_of(client).aborts for client in crowd)


async def turns_until_all_are_told(crowd: list[Connection]) -> list[int]:
    """Return how many close frames had been sent after each loop iteration."""
    after = [closes_sent(crowd)]
    while after[-1] < len(crowd):
        await asyncio.sleep(0)
        after.append(closes_sent(crowd))
    return after


async def turns_until_all_are_read(crowd: list[Connection]) -> None:
    """Return once all close frames were sent and reading has resumed."""
    await turns_until_all_are_told(crowd)
    await turns(len(crowd) // ENDED_PER_TURN + 1)
    assert unread(crowd) == 0


class TestACrowd:
    async def test_no_client_is_served_after_the_call(self, sessions: FakeSessions) -> None:
        crowd = [sessions.enter() for _ in range(CROWD)]
        assert sessions.connections.close_device(DEVICE_ID, ["*"], by_call="") == CROWD
        sessions.connections.broadcast(EVERYBODY)
        assert not any(sessions.connections.serves(client) or texts(client) for client in crowd)
        assert closes_sent(crowd) == CLOSED_PER_TURN

    async def test_a_limited_number_is_closed_per_turn_and_each_once(
        self, sessions: FakeSessions
    ) -> None:
        crowd = [sessions.enter() for _ in range(CROWD)]
        sessions.connections.close_device(DEVICE_ID, ["*"], by_call="")
        after = await turns_until_all_are_told(crowd)
        assert after == [CLOSED_PER_TURN, 2 * CLOSED_PER_TURN, 3 * CLOSED_PER_TURN, CROWD]
        assert all(closes(client) == [REMOVED] for client in crowd)
        assert sessions.connections.admitted == 0

    async def test_answers_are_read_a_few_per_turn_after_all_closes_were_sent(
        self, sessions: FakeSessions
    ) -> None:
        crowd = [sessions.enter() for _ in range(CROWD)]
        sessions.connections.close_device(DEVICE_ID, ["*"], by_call="")
        while closes_sent(crowd) < CROWD:
            assert unread(crowd) == closes_sent(crowd)
            await asyncio.sleep(0)
        left = [unread(crowd)]
        while left[-1]:
            await asyncio.sleep(0)
            left.append(unread(crowd))
        assert left == [*range(CROWD, 0, -ENDED_PER_TURN), 0]

    async def test_other_clients_are_served_meanwhile(self, sessions: FakeSessions) -> None:
        crowd = [sessions.enter() for _ in range(CROWD)]
        other = sessions.enter(device_id="another")
        sessions.connections.close_device(DEVICE_ID, ["*"], by_call="")
        sessions.connections.broadcast(EVERYBODY)
        assert len(texts(other)) == 1
        await turns_until_all_are_told(crowd)
        assert (closes(other), sessions.connections.serves(other)) == ([], True)

    async def test_a_second_one_waits_its_turn_and_none_counts_twice(
        self, sessions: FakeSessions
    ) -> None:
        crowd = [sessions.enter() for _ in range(CROWD)]
        other = sessions.enter(device_id="another")
        sessions.connections.close_device(DEVICE_ID, ["*"], by_call="")
        assert sessions.connections.close_device(DEVICE_ID, ["*"], by_call="") == 0
        assert sessions.connections.close_device("another", ["*"], by_call="") == 1
        assert (closes(other), other.closing) == ([], True)
        assert closes_sent(crowd) == CLOSED_PER_TURN
        await turns_until_all_are_told([*crowd, other])
        assert closes(other) == [REMOVED]

    async def test_connections_that_end_meanwhile_are_skipped(self, sessions: FakeSessions) -> None:
        crowd = [sessions.enter() for _ in range(CROWD)]
        sessions.connections.close_device(DEVICE_ID, ["*"], by_call="")
        gone, leaving, *_ = (client for client in crowd if not closes(client))
        transport_of(gone).closing = True
        sessions.connections.lost(gone)
        sessions.connections.reply_close(leaving, 1000)
        await turns_until_all_are_told([client for client in crowd if client is not gone])
        await turns(CROWD // ENDED_PER_TURN + 1)
        assert unread(crowd) == 0
        assert closes(gone) == []
        assert gone not in sessions.connections._closing, "nothing is due of it any more"
        assert closes(leaving) == [(1000, "")]

    async def test_a_closing_connection_is_still_read(self, sessions: FakeSessions) -> None:
        crowd, early = [sessions.enter() for _ in range(CROWD)], sessions.enter()
        sessions.connections.close(early, 1000, "")
        sessions.connections.drain(until=sessions.clock.monotonic())
        await turns_until_all_are_told(crowd)
        assert unread([early]) == 0
        assert closes(early) == [(1000, "")]

    async def test_unanswered_closes_end_after_a_second_a_few_per_turn(
        self, sessions: FakeSessions
    ) -> None:
        crowd = [sessions.enter() for _ in range(CROWD)]
        sessions.connections.close_device(DEVICE_ID, ["*"], by_call="")
        await turns_until_all_are_read(crowd)
        sessions.pass_time(1 - SWEEP_SECONDS)
        assert aborts(crowd) == 0
        sessions.pass_time(2 * SWEEP_SECONDS)
        ended = [aborts(crowd)]
        while ended[-1] < CROWD:
            await asyncio.sleep(0)
            ended.append(aborts(crowd))
        assert ended == [*range(ENDED_PER_TURN, CROWD, ENDED_PER_TURN), CROWD]

    async def test_a_sweep_meanwhile_ends_none_of_them_twice(self, sessions: FakeSessions) -> None:
        crowd = [sessions.enter() for _ in range(CROWD)]
        sessions.connections.close_device(DEVICE_ID, ["*"], by_call="")
        await turns_until_all_are_read(crowd)
        sessions.pass_time(1 + SWEEP_SECONDS)
        for client in crowd[:ENDED_PER_TURN]:
            sessions.connections.lost(client)
        sessions.connections.sweep()
        await turns(CROWD // ENDED_PER_TURN + 1)
        assert {transport_of(client).aborts for client in crowd} == {1}

    async def test_pending_closes_go_first(self, sessions: FakeSessions) -> None:
        crowd, other = [sessions.enter() for _ in range(CROWD)], sessions.enter(device_id="another")
        sessions.connections.close_device(DEVICE_ID, ["*"], by_call="")
        await turns_until_all_are_read(crowd)
        sessions.pass_time(1 + SWEEP_SECONDS)
        ended = aborts(crowd)
        sessions.connections.close_device("another", ["*"], by_call="")
        await asyncio.sleep(0)
        assert (closes(other), aborts(crowd)) == ([REMOVED], ended)

    async def test_without_a_lease_all_are_marked_as_closing_in_the_same_turn(
        self, sessions: FakeSessions
    ) -> None:
        crowd = [sessions.enter(device_id=str(number)) for number in range(CROWD)]
        assert sessions.connections.close_admitted(*LEASE_LOST) == CROWD
        assert all(client.closing for client in crowd)
        assert sessions.connections.close_admitted(*LEASE_LOST) == 0
        await turns_until_all_are_told(crowd)
        assert all(closes(client) == [LEASE_LOST] for client in crowd)

    async def test_a_queued_close_keeps_the_first_reason(self, sessions: FakeSessions) -> None:
        crowd = [sessions.enter() for _ in range(CROWD)]
        sessions.connections.close_device(DEVICE_ID, ["*"], by_call="")
        assert sessions.connections.close_admitted(*LEASE_LOST) == 0
        await turns_until_all_are_told(crowd)
        assert all(closes(client) == [REMOVED] for client in crowd)

    async def test_a_lost_lease_does_not_wait_for_a_lost_history(
        self, sessions: FakeSessions
    ) -> None:
        crowd = [sessions.enter(device_id=str(number)) for number in range(CROWD)]
        sessions.connections.mark_closing(sessions.clock.monotonic() + 100)
        assert closes_sent(crowd) == 0
        assert sessions.connections.close_admitted(*LEASE_LOST) == CROWD
        await turns_until_all_are_told(crowd)
        sessions.pass_time(100)
        assert all(closes(client) == [LEASE_LOST] for client in crowd)


class TestAFew:
    def test_they_are_closed_at_once_and_still_read(self, sessions: FakeSessions) -> None:
        few = [sessions.enter() for _ in range(CLOSED_PER_TURN)]
        sessions.connections.close_device(DEVICE_ID, ["*"], by_call="")
        assert (closes_sent(few), unread(few)) == (CLOSED_PER_TURN, 0)
