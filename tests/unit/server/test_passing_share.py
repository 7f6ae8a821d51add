"""The share of new connections follows what can be served, and neither starves nor floods."""

from __future__ import annotations

import random
from collections import deque

import pytest

from shared.server.passing_share import (
    FILTER_SECONDS,
    QUEUE_SECONDS,
    SHARE_MIN,
    PassingShare,
)

TICK_SECONDS = 0.025
LIMIT = 500


class Server:
    """Accepts and serves at fixed rates; more clients connect than that, and retransmit."""

    def __init__(self, *, offered: float, served: float, accepted: float) -> None:
        self.passing = PassingShare()
        self.now = 10.0
        self.offered, self.served, self.accepted = offered, served, accepted
        self.queued = self.waiting = 0.0
        self.unread: deque[float] = deque([0.0, 0.0])
        self.idle_ticks = 0
        self.queues: list[float] = []
        self.waits: list[float] = []

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        draw = random.Random(1)
        while self.now < until:
            self.now += TICK_SECONDS
            self.queued += self.passing.share * self.offered * TICK_SECONDS * draw.uniform(0.5, 1.5)
            taken = min(self.queued, self.accepted * TICK_SECONDS)
            self.queued -= taken
            self.unread.append(taken)  # a request is read two iterations later
            self.waiting += self.unread.popleft()
            done = min(self.waiting, self.served * TICK_SECONDS)
            self.waiting -= done
            self.idle_ticks += done < 0.9 * self.served * TICK_SECONDS
            self.queues.append(self.queued)
            self.waits.append(self.waiting)
            self.passing.adjust(
                self.now,
                waiting=round(self.waiting),
                limit=LIMIT,
                queued=round(self.queued),
                accepted=round(taken),
                arrived=round(taken),
            )


def adjust(passing: PassingShare, now: float, *, waiting: int = 0, queued: int = 0) -> float:
    passing.adjust(now, waiting=waiting, limit=LIMIT, queued=queued, accepted=0, arrived=0)
    return passing.share


def test_without_an_overload_everything_passes() -> None:
    passing = PassingShare()
    assert adjust(passing, 1.0, waiting=LIMIT // 2) == 1.0
    assert not passing.is_needed(1.0)


@pytest.mark.parametrize("crowd", [{"waiting": 2 * LIMIT}, {"queued": 10_000}])
def test_the_share_falls_while_the_excess_grows(crowd: dict[str, int]) -> None:
    passing = PassingShare()
    shares = [
        adjust(passing, number, **{key: n + number for key, n in crowd.items()})
        for number in range(50)
    ]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == SHARE_MIN


def test_the_share_stays_while_the_excess_shrinks() -> None:
    """What was let through before must still be served: a lower share would not help."""
    passing = PassingShare()
    first = adjust(passing, 1.0, waiting=3 * LIMIT)
    assert adjust(passing, 2.0, waiting=2 * LIMIT) == first


def test_the_share_rises_again_within_a_second() -> None:
    passing = PassingShare()
    for number in range(50):
        adjust(passing, number * TICK_SECONDS, waiting=2 * LIMIT + number)
    assert passing.share == SHARE_MIN
    for number in range(round(1.0 / TICK_SECONDS)):
        adjust(passing, 2.0 + number * TICK_SECONDS)
    assert passing.share == 1.0


def test_the_filter_is_needed_for_some_time_afterwards() -> None:
    passing = PassingShare()
    adjust(passing, 1.0, waiting=2 * LIMIT)
    adjust(passing, 2.0)
    adjust(passing, 3.0)
    assert passing.share == 1.0
    assert passing.is_needed(2.0 + FILTER_SECONDS - 1)
    assert not passing.is_needed(2.0 + FILTER_SECONDS + 1)


def test_connections_that_will_not_wait_are_no_overload() -> None:
    """Such as health checks, and those of an address that has too many."""
    passing = PassingShare()
    for number in range(100):
        passing.adjust(
            number * TICK_SECONDS, waiting=0, limit=LIMIT, queued=0, accepted=LIMIT, arrived=0
        )
    assert passing.share == 1.0


def test_small_bursts_that_are_far_apart_are_no_overload() -> None:
    """The time in between says nothing about how quickly connections are accepted."""
    passing = PassingShare()
    for number in range(20):
        passing.adjust(number * 30.0, waiting=0, limit=LIMIT, queued=40, accepted=64, arrived=64)
    assert passing.share == 1.0


@pytest.mark.parametrize("times", [2, 10, 50])
@pytest.mark.parametrize(("served", "accepted"), [(300.0, 1000.0), (1500.0, 6000.0)])
def test_in_an_overload_the_server_stays_busy_and_queues_stay_short(
    times: int, served: float, accepted: float
) -> None:
    server = Server(offered=times * served, served=served, accepted=accepted)
    server.run(20.0)
    server.idle_ticks = 0
    server.queues, server.waits = [], []
    server.run(60.0)
    assert server.idle_ticks < 0.1 * 60.0 / TICK_SECONDS
    assert max(server.waits) < 2 * LIMIT
    assert max(server.queues) < 2 * max(accepted * QUEUE_SECONDS, times * served * TICK_SECONDS)
